"""The half-lives of a run's refreshes on its page, and where they stand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from alphadecay.inspect.html.report import render
from alphadecay.inspect.run.reader import read_run
from tests.unit.alphadecay.inspect.html.made_run import chart, island, make_run, weight_names
from train.config import TrainConfig
from train.config.command_line import dump_config
from train.telemetry.metrics import MetricsWriter

NAMES = weight_names(3)
DECAYS = {name: 0.1 * (1 + place) for place, name in enumerate(NAMES)}
TOKENS = 2048  # a step
RATES = {0: 0.0, 4: 2e-3, 8: 1e-3}  # the learning rate at each refresh


def halves(decay: float, lr: float) -> float | None:
    """Solve (1 - lr decay)^n = 1/2 for small lr decay."""
    return math.log(2) / (decay * lr) if lr else None


def write_run(folder: Path, **settings: dict[str, object]) -> Path:
    """A run with half-lives and nothing of the dynamics; `settings` replace keys of sections."""
    run = make_run(folder)
    config = TrainConfig()
    for section, values in settings.items():
        own = dataclasses.replace(getattr(config, section), **values)
        config = dataclasses.replace(config, **{section: own})
    (run / "config.yaml").write_text(dump_config(config))
    (run / "metrics.jsonl").unlink()
    with MetricsWriter(run / "metrics.jsonl") as writer:
        for step, lr in RATES.items():
            steps = {name: halves(decay, lr) for name, decay in DECAYS.items()}
            line = {
                "weight_decays": DECAYS,
                "half_life_steps": steps,
                "half_life_tokens": {n: v and v * TOKENS for n, v in steps.items()},
                "cumulative_decay": {name: step * decay for name, decay in DECAYS.items()},
            }
            writer.write("refresh", step, line)
            writer.write("validation", step, {"val_loss": 8.0 - step, "probe_loss": 7.0 - step})
    return run


def test_each_type_has_the_median_half_life_of_its_layers(tmp_path: Path) -> None:
    text = render(read_run(write_run(tmp_path / "run")))
    figure = chart(text, "half-life")
    line = figure["traces"]["down"]
    middle = DECAYS["model.layers.1.mlp.down_proj.weight"]
    assert line["x"] == list(RATES)
    assert line["y"][0] is None  # a rate of 0 halves nothing
    assert line["y"][1:] == pytest.approx([halves(middle, 2e-3), halves(middle, 1e-3)], rel=1e-6)
    assert figure["layout"]["yaxis"]["type"] == "log"
    sums = chart(text, "cumulative-decay")["traces"]["down"]
    assert sums["y"] == pytest.approx([0.0, 4 * middle, 8 * middle], rel=1e-6)
    assert "What decay does" in text and "A step has 2,048 tokens." in text
    assert "decay.cautious spares weights" not in text


def test_it_stands_beside_what_the_run_forgot_where_that_was_measured(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", eval={"probe_step": 3})
    text = render(read_run(run))
    assert text.index("Forgetting</h2>") < text.index('id="half-life"')
    assert "What decay does" not in text
    assert {"forgetting", "half-life"} <= {figure["id"] for figure in island(text, "figures")}


def test_cautious_decay_is_said_to_take_less(tmp_path: Path) -> None:
    settings = {"eval": {"probe_step": 3}, "decay": {"cautious": True}}
    text = render(read_run(write_run(tmp_path / "run", **settings)))
    assert "they halve later" in text
    assert "the dashed line is the least that decay leaves" in text


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_penalty_on_gradients_has_no_half_life(tmp_path: Path, optimizer: str) -> None:
    settings = {"eval": {"probe_step": 3}, "optim": {"name": optimizer}}
    text = render(read_run(write_run(tmp_path / "run", **settings)))
    figures = {figure["id"]: figure for figure in island(text, "figures")}
    assert "half-life" not in figures
    assert [trace["name"] for trace in figures["forgetting"]["data"]] == ["advantage"]
    assert "dashed" not in text.partition("Forgetting</h2>")[2].partition("</section>")[0]
