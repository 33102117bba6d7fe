"""The console: a bar on a terminal, lines elsewhere, silence on request."""

import io

import pytest
from rich.console import Console

from alphadecay.inspect.run.metrics import PERPLEXITY, perplexity
from alphadecay.inspect.run.words import clock, number
from train.telemetry import progress
from train.telemetry.progress import Bar, Lines, Progress, make_progress

FIGURE = PERPLEXITY._asdict()


@pytest.fixture
def now(monkeypatch):
    """A clock that moves only when told: now[0] += seconds."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def line(step, **figures):
    return {
        "kind": "train",
        "step": step,
        "loss": 2.0,
        "lr": 1e-3,
        "tokens_per_second": 5123.0,
        "mfu": 0.412,
    } | figures


def validation(step, loss):
    return {
        "kind": "validation",
        "step": step,
        "val_loss": loss,
        "val_perplexity": perplexity(loss),
        "figure": FIGURE,
    }


def refresh(step, seconds, modules):
    return {
        "kind": "refresh",
        "step": step,
        "refresh_seconds": seconds,
        "weight_decays": dict.fromkeys(range(modules), 0.1),
    }


def run(shown, now, steps, seconds=0.5, total=10, initial=0):
    shown.start(total, initial)
    for step in steps:
        now[0] += seconds
        shown.advance(step)
        shown.log(line(step))
    shown.close()


def test_lines_are_spaced_and_end_with_the_last_step(now):
    stream = io.StringIO()
    run(Lines(stream), now, range(1, 11))
    lines = stream.getvalue().splitlines()
    assert [line.split("/")[0].split()[1] for line in lines] == ["1", "5", "9", "10"]
    assert (
        lines[0]
        == "step  1/10  loss 2.0000  ppl 7.389  lr 1.00e-03  5,123 tokens/s  mfu 41.2%  0:04 left"
    )
    assert lines[-1].endswith("0:00 left")


def test_time_left_counts_from_the_step_gone_on_from(now):
    shown = Lines(io.StringIO())
    run(shown, now, [91, 92], seconds=60.0, total=100, initial=90)
    assert shown.time_left() == "8:00"


def test_what_happens_once_is_no_pace(now):
    shown = Lines(io.StringIO())
    shown.start(11)
    now[0] += 62.0
    shown.advance(1, once=60.0)
    assert shown.time_left() == "0:20"


def test_validation_refresh_and_message_are_lines(now):
    stream = io.StringIO()
    shown = Lines(stream)
    shown.start(10)
    shown.log(validation(0, 2.0))
    shown.log(refresh(0, 0.42, 42))
    shown.log({"kind": "notice", "step": 3, "notice": "loss spike"})
    shown.message("saved [3]")
    first, second, notice, third = stream.getvalue().splitlines()
    assert "step 0" in first and "perplexity 7.389" in first
    assert "42 modules" in second and "0.42 s" in second
    assert third == "saved [3]" and notice == "step 3: loss spike"


def test_a_figure_that_was_not_finite_is_a_dash(now):
    stream = io.StringIO()
    shown = Lines(stream)
    shown.start(1)
    shown.log(line(1, loss=None, lr=None, tokens_per_second=None, mfu=None))
    unknown = {"val_loss": None, "val_perplexity": None, "figure": FIGURE}
    shown.log({"kind": "validation", "step": 1, **unknown})
    first, second = stream.getvalue().splitlines()
    assert (
        first == "step 1/1  loss -  ppl -  lr -  - tokens/s  -:-- left"
        and second == "step 1: validation loss -, perplexity -"
    )


def test_a_loss_that_is_not_of_text_has_no_perplexity(now):
    stream = io.StringIO()
    for shown in (Lines(stream), Bar(Console(file=stream, force_terminal=True, width=100))):
        shown.of_text = False
        shown.start(1)
        shown.log(line(1))
        shown.close()
    text = stream.getvalue()
    assert text.count("loss") == 3 and "ppl" not in text  # the bar is drawn twice


def test_the_bar_shows_all_figures_and_leaves_messages_above(now):
    stream = io.StringIO()
    shown = Bar(Console(file=stream, force_terminal=True, width=100, color_system=None))
    shown.start(10)
    now[0] += 1
    shown.advance(3)
    shown.log(line(3))
    shown.message("saved [3]")
    now[0] += 1 / 3
    shown.advance(4)  # has no record of its own: the figures stay
    shown.close()
    shown.close()
    text = stream.getvalue()
    assert "saved [3]" in text
    last = text.rsplit("4/10", 1)[1]
    assert all(
        figure in last
        for figure in ("loss 2.0000", "ppl 7.389", "5,123 tok/s", "mfu 41.2%", "0:02 left")
    )


def test_off_says_nothing(capsys):
    shown = make_progress("off")
    shown.start(2)
    shown.advance(1)
    for record in (
        line(1),
        validation(1, 2.0),
        refresh(1, 0.1, 3),
        {"kind": "notice", "step": 1, "notice": "x"},
    ):
        shown.log(record)
    shown.message("x")
    shown.close()
    assert capsys.readouterr() == ("", "")


def test_auto_asks_the_stream():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert type(make_progress("auto", io.StringIO())) is Lines
    assert type(make_progress("auto", Terminal())) is Bar
    assert type(make_progress("bar", io.StringIO())) is Bar
    assert type(make_progress("lines", Terminal())) is Lines
    assert type(make_progress("off", Terminal())) is Progress


def test_numbers_and_clock():
    texts = [
        number(value)
        for value in (
            0.1234,
            45.678,
            999.4,
            1234.5,
            12_345,
            614_400,
            6.84e6,
            1.31e9,
            float("inf"),
            float("nan"),
        )
    ]
    assert texts == [
        "0.123",
        "45.68",
        "999.4",
        "1,234",
        "12.3k",
        "614.4k",
        "6.84M",
        "1.31B",
        "inf",
        "nan",
    ]
    assert [clock(seconds) for seconds in (0, 59.6, 183, 3723)] == [
        "0:00",
        "1:00",
        "3:03",
        "1:02:03",
    ]
