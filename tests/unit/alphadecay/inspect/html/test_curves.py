"""Curves hold the figures of metrics.jsonl."""

import math

import pytest

from alphadecay.inspect.html.curves import step_parts
from alphadecay.inspect.html.report import render
from alphadecay.inspect.run.parts import PARTS
from alphadecay.inspect.run.reader import read_run
from tests.unit.alphadecay.inspect.html.made_run import chart, make_run
from train.telemetry.metrics import read_metrics


def test_loss_and_perplexity_are_the_records(tmp_path):
    folder = make_run(tmp_path / "run")
    text = render(read_run(folder))
    records = read_metrics(folder / "metrics.jsonl", "train")
    loss = chart(text, "loss")["traces"]
    perplexity = chart(text, "perplexity")
    assert loss["training"]["x"] == list(range(1, 13)) and loss["training"]["y"] == [
        record["loss"] for record in records
    ]
    assert loss["training"]["y"][2] is None  # step 3 was not finite
    assert perplexity["traces"]["training"]["y"][3] == pytest.approx(math.exp(records[3]["loss"]))
    assert (
        perplexity["layout"]["yaxis"]["type"] == "log"
        and chart(text, "loss")["layout"]["yaxis"].get("type") != "log"
    )
    validations = read_metrics(folder / "metrics.jsonl", "validation")
    for figure, key in ((loss, "val_loss"), (perplexity["traces"], "val_perplexity")):
        assert figure["validation"]["x"] == [0, 12] and figure["validation"]["y"] == [
            record[key] for record in validations
        ]


def test_refreshes_and_skipped_steps_are_marked(tmp_path):
    traces = chart(render(read_run(make_run(tmp_path / "run"))), "loss")["traces"]
    assert (
        traces["refresh"]["x"] == [0, 4, 8, 12]
        and traces["step skipped"]["x"] == [3]
        and "loss spike" not in traces
    )


def test_a_loss_whose_exponential_overflows_leaves_a_gap(tmp_path):
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 13, "loss": 1e6}\n')
    assert chart(render(read_run(folder)), "perplexity")["traces"]["training"]["y"][-1] is None


@pytest.mark.parametrize("steps", [12, 700])
def test_seconds_by_part_add_up_to_those_of_the_records(tmp_path, steps):
    folder = make_run(tmp_path / "run", steps=steps, interval=0)
    records = read_metrics(folder / "metrics.jsonl", "train")
    traces = {trace.name: trace for trace in step_parts(read_run(folder)).data}
    assert len(traces) == len(PARTS)
    for part in PARTS:
        trace = traces["fwd + bwd" if part == "forward_backward" else part]
        x = list(trace.x)
        y = list(trace.y)
        assert len(x) <= 301 and x[0] == 0 and x[-1] == steps
        area = math.fsum(
            (after - before) * height
            for before, after, height in zip(x, x[1:], y[1:], strict=False)
        )
        assert area == pytest.approx(math.fsum(record["seconds"][part] for record in records))


def test_a_long_run_stays_short(tmp_path):
    folder = make_run(tmp_path / "run", steps=4000, interval=0)
    y = chart(render(read_run(folder)), "loss")["traces"]["training"]["y"]
    losses = [record["loss"] for record in read_metrics(folder / "metrics.jsonl", "train")]
    assert (
        len(y) < 1600 and max(filter(None, y)) == max(filter(None, losses)) and y[-1] == losses[-1]
    )
