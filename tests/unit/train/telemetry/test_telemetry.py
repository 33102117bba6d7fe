"""What a training line says of the steps since the line before, and what a resumed run goes on
with.
"""

import dataclasses
import json
from dataclasses import replace

import pytest
import torch

from alphadecay import AdamW
from alphadecay.inspect.run.metrics import PERPLEXITY
from tests.engines import PlainEngine
from train.cluster.distributed import World
from train.config import (
    DataConfig,
    DecayConfig,
    DeepSpeedConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)
from train.models import spec_of
from train.tasks.language_modelling.evaluation import Validation
from train.telemetry import clock
from train.telemetry import telemetry as telemetry_module
from train.telemetry.metrics import read_metrics
from train.telemetry.telemetry import Telemetry

MODEL = ModelConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2)
CONFIG = TrainConfig(
    model=MODEL,
    data=DataConfig(sequence_length=8),
    optim=OptimConfig(weight_decay=0.5),
    decay=DecayConfig(method="uniform"),
    run=RunConfig(steps=7, global_batch=4),
    log=LogConfig(every=3, progress="off", peak_tflops=2.0),
)
# of 4 x 8 positions a step two are fill
TOKENS = 30
PEAK = 2e12


@pytest.fixture
def now(monkeypatch):
    """A clock that moves only when told."""
    time = [10.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: time[0])
    return time


def telemetry(folder, resume_step=None, config=CONFIG, opened=True):
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 3)
    engine = PlainEngine(module, AdamW(module.parameters()))
    shown = Telemetry(config, folder, World(0, 0, 1, torch.device("cpu")), engine, resume_step)
    if opened:
        shown.journal.open()
    return shown


def take(shown, now, steps):
    """Steps of 2 seconds, every other one with a second of evaluation after it."""
    for step in steps:
        shown.begin(step)
        with shown.clock.part("forward_backward"):
            now[0] += 2.0
        shown.stepped(0.01, 0.5, None, momentum=0.9)
        shown.train(step, {"loss": 1.0, "lr": 0.01, "grad_norm": 1.0, "tokens": step * TOKENS})
        if step % 2 == 0:
            with shown.clock.part("evaluation"):
                now[0] += 1.0


def test_what_auto_took_is_recorded_with_the_sizes_and_not_shown_again(tmp_path, capsys):
    sizes = {"micro_batch": 2, "ds_config": "ds_configs/zero1.json"}
    config = replace(
        CONFIG,
        run=replace(CONFIG.run, micro_batch=2),
        deepspeed=DeepSpeedConfig(config="ds_configs/zero1.json"),
        log=replace(CONFIG.log, progress="lines"),
    )
    shown = telemetry(tmp_path, config=config)
    shown.chose(3, "auto takes a micro batch of 2")
    shown.close()
    [notice] = read_metrics(tmp_path / "metrics.jsonl", "notice")
    assert notice["step"] == 3 and notice["notice"] == "auto takes a micro batch of 2"
    assert sizes.items() <= notice.items()
    assert "auto" not in capsys.readouterr().out


def test_compiling_is_told_and_no_part_of_the_speed(tmp_path, now, monkeypatch, capsys):
    compiled = [5.0]
    for module in (clock, telemetry_module):
        monkeypatch.setattr(module, "compile_seconds", lambda: compiled[0])
    config = replace(
        CONFIG, model=replace(MODEL, compile=True), log=replace(CONFIG.log, progress="lines")
    )
    shown = telemetry(tmp_path, config=config)
    shown.begin(1)
    with shown.clock.part("forward_backward"):
        now[0] += 32.0
        compiled[0] += 30.0
    shown.train(1, {"loss": 1.0, "lr": 0.01, "grad_norm": 1.0, "tokens": TOKENS})
    take(shown, now, range(2, 4))
    shown.close()
    said = capsys.readouterr().out
    assert said.index("compiling the decoder layers") < said.index("compiling took 30.0 s")
    assert said.count("compiling took") == 1
    lines = read_metrics(tmp_path / "metrics.jsonl", "train")
    assert [line["tokens_per_second"] for line in lines] == [15.0, 15.0]
    assert [line["seconds"]["compiling"] for line in lines] == [30.0, 0.0]


def test_a_line_is_about_the_steps_since_the_line_before(tmp_path, now):
    shown = telemetry(tmp_path)
    take(shown, now, range(1, 8))
    found = shown.summary()
    shown.close()
    lines = read_metrics(tmp_path / "metrics.jsonl", "train")
    assert [line["step"] for line in lines] == [1, 3, 6, 7]
    assert [line["seconds"]["forward_backward"] for line in lines] == [2.0, 4.0, 6.0, 2.0]
    # that of a step is in the line after it
    assert [line["seconds"]["evaluation"] for line in lines] == [0.0, 1.0, 1.0, 1.0]
    mfu = 32 * spec_of(MODEL).flops_per_token(MODEL, 8) / (2.0 * PEAK)
    for line in lines:
        assert (
            line["tokens_per_second"] == 15.0
            and line["mfu"] == pytest.approx(mfu)
            and line["peak_tflops"] == 2.0
        )
        assert line["cumulative_decay_mean"] == pytest.approx(line["step"] * 0.01 * 0.5)
    assert (
        found["seconds_training"] == 14.0
        and found["tokens_per_second"] == 15.0
        and found["mfu"] == pytest.approx(mfu)
    )
    assert (
        found["time_shares"]["evaluation"] == pytest.approx(3 / 17)
        and found["peak_source"] == "log.peak_tflops"
    )


def test_a_resume_between_two_lines_loses_nothing(tmp_path, now):
    whole = telemetry(tmp_path / "whole")
    take(whole, now, range(1, 8))
    expected = whole.summary()
    first = telemetry(tmp_path / "cut")
    take(first, now, range(1, 6))
    first.validation(5, Validation(2.0, 1.0, 9).record(), PERPLEXITY)
    state = json.loads(json.dumps(first.state_dict()))
    first.close()
    second = telemetry(tmp_path / "cut", resume_step=5)
    second.load_state_dict(state)
    take(second, now, range(6, 8))
    found = second.summary()
    assert (
        found["val_perplexity_published"] == pytest.approx(2.718281828) and found["val_tokens"] == 9
    )
    for key in (
        "seconds_training",
        "tokens_per_second",
        "mfu",
        "time_shares",
        "cumulative_decay_mean",
    ):
        assert found[key] == pytest.approx(expected[key]), key
    lines, straight = (
        read_metrics(tmp_path / name / "metrics.jsonl", "train") for name in ("cut", "whole")
    )
    assert [line["tokens_per_second"] for line in lines] == [15.0] * 4
    assert [line["seconds"]["forward_backward"] for line in lines] == [
        line["seconds"]["forward_backward"] for line in straight
    ]


def test_a_notice_is_kept(tmp_path):
    shown = telemetry(tmp_path)
    shown.notice(3, "loss spike", loss=9.0)
    shown.close()
    assert read_metrics(tmp_path / "metrics.jsonl", "notice") == [
        {"kind": "notice", "step": 3, "notice": "loss spike", "loss": 9.0}
    ]


def out_of_sight():
    raise ValueError("DeepSpeed wrapped the optimizer in something unknown")


def test_an_engine_whose_weights_are_out_of_sight_has_no_norms(tmp_path, now):
    module = torch.nn.Linear(4, 3)
    engine = PlainEngine(module, AdamW(module.parameters()))
    engine.master_spans = out_of_sight
    shown = Telemetry(CONFIG, tmp_path, World(0, 0, 1, torch.device("cpu")), engine, None)
    shown.journal.open()
    take(shown, now, [1])
    (line,) = read_metrics(tmp_path / "metrics.jsonl", "train")
    assert "weight_norm" not in line and line["mfu"] > 0


def test_a_trace_that_cannot_be_written_ends_nothing(tmp_path, now, monkeypatch, capsys):
    config = dataclasses.replace(CONFIG, log=dataclasses.replace(CONFIG.log, progress="lines"))
    shown = telemetry(tmp_path, config=config)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shown._profile, "end", full)
    take(shown, now, [1])
    shown.close()
    assert "warning: no trace of steps up to 1: [Errno 28] No space left" in capsys.readouterr().out


def test_an_earlier_runs_lines_stay_until_it_is_opened(tmp_path, now, capsys):
    first = telemetry(tmp_path)
    take(first, now, range(1, 7))
    first.close()
    path = tmp_path / "metrics.jsonl"
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    shown = telemetry(tmp_path, resume_step=3, opened=False)
    shown.notice(3, "held back")
    take(shown, now, [4])
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before
    shown.journal.open()
    shown.journal.open()
    take(shown, now, [5, 6])
    shown.close()
    lines = [(line["kind"], line["step"]) for line in read_metrics(path)]
    assert lines == [("train", 1), ("train", 3), ("notice", 3), ("train", 6)]
