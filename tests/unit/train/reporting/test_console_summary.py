"""The remains of a run: the heat map, summary.json and the closing summary."""

import io
import json
import math
import platform
import shlex

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from alphadecay.inspect.module_names import layer_and_type
from alphadecay.inspect.run.grid import grid
from alphadecay.inspect.run.metrics import PERPLEXITY
from train.config.command_line import load_config
from train.config.recipe_file import RECIPES
from train.reporting.command import main as report_main
from train.reporting.console_summary import closing_summary, print_closing_summary
from train.reporting.heatmap import write_heatmaps
from train.telemetry.summary import write_summary

KINDS = {"self_attn.q_proj": 2.1, "self_attn.o_proj": 2.5, "mlp.down_proj": 3.0, "mlp.up_proj": 3.2}
ALPHAS = {
    f"model.layers.{layer}.{kind}.weight": value + layer / 100
    for layer in (0, 1, 10)
    for kind, value in KINDS.items()
}
DECAYS = {name: (alpha - 2) / 10 for name, alpha in ALPHAS.items()}
SUMMARY = {
    "name": "quickstart",
    "world_size": 2,
    "zero_stage": 3,
    "steps": 150,
    "tokens": 614_400,
    "figure": PERPLEXITY._asdict(),
    "val_perplexity_first": 4213.2,
    "val_perplexity": 87.31,
    "tokens_per_second": 5123.0,
    "model_parameters": 6_837_504,
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.3.self_attn.q_proj.weight", (3, "q")),
        ("model.layers.11.mlp.gate_proj.weight", (11, "gate")),
        ("transformer.h.2.attn.c_attn.weight", (2, "c_attn")),
        ("model.layers.0.mlp.experts.5.up_proj.weight", (0, "experts.5.up")),
        ("model.layers.0.self_attn.qkv_proj.weight[0:64]", (0, "qkv[0:64]")),
        ("lm_head.weight", (-1, "lm_head")),
        ("weight", (-1, "weight")),
    ],
)
def test_names_are_read(name, expected):
    assert layer_and_type(name) == expected


def test_grid_orders_layers_by_number_and_types_by_flow():
    table, rows, columns = grid({**ALPHAS, "lm_head.weight": math.nan})
    assert rows == ["0", "1", "10", "other"] and columns == ["q", "o", "up", "down", "lm_head"]
    assert table[2].tolist()[:4] == pytest.approx([2.2, 2.6, 3.3, 3.1])
    assert np.isnan(table[3]).all()


def test_the_heat_map_is_a_picture_with_something_in_it(tmp_path):
    path = tmp_path / "deep" / "heatmap.png"
    write_heatmaps(path, ALPHAS, DECAYS, title="a run")
    picture = matplotlib.image.imread(path)
    height, width, _ = picture.shape
    assert width > 1000 and height > 300
    # Both halves hold many colours.
    assert all(
        len(np.unique(half.reshape(-1, 4), axis=0)) > 100
        for half in np.array_split(picture, 2, axis=1)
    )


def test_history_adds_a_panel_below(tmp_path):
    history = [
        {"kind": "refresh", "step": step, "alphas": ALPHAS, "weight_decays": DECAYS}
        for step in (0, 25)
    ]
    write_heatmaps(tmp_path / "plain.png", ALPHAS, DECAYS, history[:1])
    write_heatmaps(tmp_path / "history.png", ALPHAS, DECAYS, history)
    plain, grown = (
        matplotlib.image.imread(tmp_path / name).shape for name in ("plain.png", "history.png")
    )
    assert grown[0] > plain[0] and grown[1] == plain[1]


@pytest.mark.parametrize(
    ("alphas", "decays"),
    [({}, DECAYS), (dict.fromkeys(ALPHAS, math.nan), dict.fromkeys(DECAYS, 0.1))],
)
def test_the_heat_map_of_a_uniform_run(tmp_path, alphas, decays):
    write_heatmaps(tmp_path / "heatmap.png", alphas, decays)
    assert (tmp_path / "heatmap.png").stat().st_size > 1000


def test_nothing_to_draw_writes_nothing(tmp_path):
    write_heatmaps(tmp_path / "heatmap.png", {}, {})
    assert not (tmp_path / "heatmap.png").exists()


def test_summary_has_versions_and_strict_json(tmp_path):
    written = write_summary(
        tmp_path / "deep" / "summary.json", {**SUMMARY, "val_perplexity": math.inf}
    )
    read = json.loads((tmp_path / "deep" / "summary.json").read_text())
    assert read == written and read["val_perplexity"] is None and read["steps"] == 150
    assert read["versions"]["python"] == platform.python_version()
    assert set(read["versions"]) == {"python", "torch", "deepspeed", "transformers", "alphadecay"}
    assert read["versions"]["torch"]


def shown(*arguments, width=100):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(closing_summary(*arguments))
    return console.export_text()


def test_the_engine_is_named_with_its_ranks():
    summary = {key: value for key, value in SUMMARY.items() if key != "zero_stage"}
    assert " rank" not in shown(summary, {}, {}, "runs/x", 1.0, width=200)
    summary |= {"engine": "fsdp2", "world_size": 4, "engine_shard": 4}
    assert " · FSDP2 on 4 ranks · " in shown(summary, {}, {}, "runs/x", 1.0, width=200)
    hybrid = shown(summary | {"engine_shard": 2}, {}, {}, "runs/x", 1.0, width=200)
    assert " · FSDP2 (HSDP, 2 ranks a copy) on 4 ranks · " in hybrid and "ZeRO" not in hybrid


def test_the_closing_summary_tells_what_matters(tmp_path):
    for name in ("metrics.jsonl", "summary.json"):
        (tmp_path / name).touch()
    text = shown(SUMMARY, ALPHAS, DECAYS, tmp_path, 183.0)
    assert "Validation perplexity 4,213 → 87.31" in text
    assert "6.84M parameters · 150 steps" in text and "ZeRO-3 on 2 ranks" in text and "3:03" in text
    strongest, weakest = (
        next(line for line in text.splitlines() if word in line)
        for word in ("strongest", "weakest")
    )
    assert "layer 10 up" in strongest and "0.130" in strongest and "3.30" in strongest
    assert "layer 0 q" in weakest and "0.0100" in weakest and "2.10" in weakest
    assert "metrics.jsonl" in text and "summary.json" in text
    assert "heatmap.png" not in text  # it was not written


def test_from_another_folder_its_commands_name_the_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = shown(SUMMARY, ALPHAS, DECAYS, "runs/quickstart", 1.0, width=200)
    root = RECIPES.parents[1]
    assert f" {root}/train report runs/quickstart" in text
    assert f" {root}/train/pretrain.py --config llama_60m" in text


def test_the_commands_it_names_load(monkeypatch, capsys):
    text = shown(SUMMARY, ALPHAS, DECAYS, "my runs/quickstart", 1.0, width=80)
    # shlex, unlike a shell, keeps a backslash before a line's end inside quotes.
    words = shlex.split(text.split("What next")[1].replace("\\\n", "").replace("paper's", "paper"))
    monkeypatch.chdir(RECIPES.parents[1])
    overrides = next(word for word in words if word.startswith("ARGS="))[len("ARGS=") :].split()
    uniform = load_config(["--config", "train/recipes/quickstart.yaml", *overrides])
    assert words[words.index("make") + 1] == "quickstart"
    assert (uniform.decay.method, uniform.output_dir) == ("uniform", "runs/quickstart-uniform")
    assert load_config(words[words.index("train/pretrain.py") + 1 :]).name == "llama-60m"
    assert report_main([words[words.index("report") + 1]]) == 2
    assert "error: my runs/quickstart has no metrics.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("alphas", "decays", "expected"),
    [
        ({}, {}, "perplexity"),
        ({}, dict.fromkeys(DECAYS, 0.1), "alike, by 0.100"),
        ({"a.weight": math.nan}, {"a.weight": 0.1, "b.weight": 0.2}, "b.weight"),
    ],
)
def test_the_closing_summary_of_a_run_with_less_to_tell(tmp_path, alphas, decays, expected):
    assert expected in shown(
        {"figure": PERPLEXITY._asdict(), "val_perplexity_first": 2.0, "val_perplexity": 3.0},
        alphas,
        decays,
        tmp_path,
        1.0,
    )
    assert shown({}, alphas, decays, tmp_path, 1.0)


def test_it_prints(tmp_path, capsys):
    print_closing_summary(SUMMARY, ALPHAS, DECAYS, tmp_path, 1.0)
    assert "4,213" in capsys.readouterr().out


def test_the_closing_summary_says_how_much_was_training():
    seconds = {"start": 360.0, "training": 2880.0, "lost": 357.0, "save_stall": 3.0, "other": 0.0}
    seconds |= dict.fromkeys(("data_wait", "refresh", "evaluation", "compile"), 0.0)
    goodput = {
        "share": 0.8,
        "wall_seconds": 3600.0,
        "between_seconds": 61.0,
        "attempts": 2,
        "lost_steps": 12,
        "first_step": 0,
        "seconds": seconds,
    }
    console = Console(file=io.StringIO(), width=160, color_system=None)
    print_closing_summary(SUMMARY | {"goodput": goodput}, {}, {}, "runs/x", 60.0, console)
    text = console.file.getvalue()
    assert "Training was 80.0% of 1:00:00 in 2 attempts" in text
    assert "start 10.0%, steps lost to a restart 9.9%" in text and "saves" not in text
    assert "12 steps had to be done again; 1:01 between attempts" in text


def test_the_closing_summary_says_what_auto_took():
    said = "auto takes a micro batch of 4: about 6 GB on a card of 24 GB; 8 would take 20 GB"
    assert f"Sizes: {said}" in shown(SUMMARY | {"chosen": said}, {}, {}, "runs/x", 1.0, width=200)
    assert "Sizes" not in shown(SUMMARY | {"chosen": ""}, {}, {}, "runs/x", 1.0)


def test_the_closing_summary_says_what_it_cost():
    costs = {
        "mfu": 0.412,
        "peak_tflops": 989.4,
        "peak_source": "H100, data sheet",
        "val_perplexity_published": 79.5,
        "memory": {"peak_allocated_bytes": 3 * 2**30, "peak_reserved_bytes": 4 * 2**30},
        "time_shares": {"data": 0.0004, "forward_backward": 0.75, "step": 0.2, "refresh": 0.0496},
    }
    console = Console(file=io.StringIO(), width=160, color_system=None)
    print_closing_summary(SUMMARY | costs, {}, {}, "runs/x", 60.0, console)
    text = console.file.getvalue()
    assert "(79.5 as the published code counts)" in text and "41.2% MFU" in text
    assert "Time: forward+backward 75.0%, step 20.0%, refresh 5.0%" in text
    assert (
        "Memory: at most 3.00 GiB on a rank" in text
        and "against 989 TFLOP/s a rank (H100, data sheet)" in text
    )
