"""What a run that has them shows of learning rates by module, and of what decay did."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphadecay.inspect.html.report import render
from alphadecay.inspect.run.reader import read_run
from tests.unit.alphadecay.inspect.html.made_run import chart, island, make_run, weight_names
from train.telemetry.metrics import MetricsWriter

NAMES = weight_names(3)
KEYS = ("rotation", "equilibrium", "norm_growth", "effective_lr")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "run")
    alphas = {name: 2.0 + place / 10 for place, name in enumerate(NAMES)}
    rates = {name: 1.0 + place for place, name in enumerate(NAMES)}
    with MetricsWriter(folder / "metrics.jsonl", resume_step=12) as writer:
        for step in (13, 14):
            figures = {key: {n: step * r for n, r in rates.items()} for key in KEYS}
            figures["equilibrium"][NAMES[0]] = None
            figures["rotation"]["lm_head.weight"] = 1.0
            writer.write("dynamics", step, figures)
            bounds = {f"layers.{layer}": step + layer for layer in range(3)}
            logits = {"attention_logit_bound": bounds, "output_logit_max": 2.0}
            writer.write("validation", step, {"val_loss": 1.0, "val_perplexity": 2.0, **logits})
        ends = {"model.embed_tokens.weight": 5.0, "lm_head.weight": 5.0}
        record = {"alphas": alphas, "weight_decays": alphas, "lr_ratios": rates | ends}
        writer.write("refresh", 14, record)
    return folder


def test_rates_have_a_map_and_lines_beside_alpha_and_decay(run: Path) -> None:
    text = render(read_run(run))
    (trace,) = chart(text, "map-rate")["data"]
    assert trace["z"][2][6] == 1.0 + NAMES.index("model.layers.2.mlp.down_proj.weight")
    assert trace["y"] == ["0", "1", "2"]  # embeddings and the head are in no row
    assert len(chart(text, "lines-rate")["data"]) == 14  # a line and a band a type
    assert set(island(text, "refreshes")["values"]) == {"alpha", "decay", "rate"}
    assert "Embeddings and head learn at 5 × the scheduled rate." in text


def test_what_decay_does_has_a_chart_a_figure(run: Path) -> None:
    text = render(read_run(run))
    for key in KEYS:
        lines = [trace for trace in chart(text, f"dynamics-{key}")["data"] if trace.get("name")]
        named = {trace["name"]: trace for trace in lines}
        assert named["down"]["x"] == [13, 14]
        middle = 1.0 + NAMES.index("model.layers.1.mlp.down_proj.weight")
        assert named["down"]["y"] == pytest.approx([13 * middle, 14 * middle], rel=1e-6)
    assert "What decay does" in text
    attention, output = chart(text, "dynamics-logits")["data"]
    assert attention["y"][-2:] == [15, 16] and output["y"][-2:] == [2.0, 2.0]


def test_where_no_angle_balances_there_is_no_chart_of_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    figures = {key: dict.fromkeys(NAMES, None if key == "equilibrium" else 1.0) for key in KEYS}
    with MetricsWriter(folder / "metrics.jsonl", resume_step=12) as writer:
        writer.write("dynamics", 13, figures)
    text = render(read_run(folder))
    drawn = {figure["id"] for figure in island(text, "figures")}
    assert "dynamics-rotation" in drawn and "dynamics-equilibrium" not in drawn
    assert "What decay does" in text and "decay and updates balance" not in text


def test_a_run_without_them_has_neither(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    text = render(read_run(folder))
    assert "What decay does" not in text and "map-rate" not in text
    assert set(island(text, "refreshes")["values"]) == {"alpha", "decay"}
