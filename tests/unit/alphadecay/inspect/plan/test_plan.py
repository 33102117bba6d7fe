"""Plans from a name, a file or a folder: figures by hand, and what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from alphadecay.cli import main
from alphadecay.inspect.plan.refresh import ROW
from alphadecay.inspect.plan.sizes import SIZES
from alphadecay.inspect.plan.text import ranges, type_of
from alphadecay.spectral import FIELDS
from tests.conftest import ROOT

TINY = {
    "model_type": "llama",
    "vocab_size": 10,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


def config(folder: Path, **changed: Any) -> str:
    file = folder / "config.json"
    file.write_text(json.dumps(TINY | changed))
    return str(file)


@pytest.mark.parametrize("size", ["60m", "130m", "350m", "1b"])
def test_the_papers_sizes_are_those_of_the_recipes(size: str) -> None:
    recipe = yaml.safe_load((ROOT / "train" / "recipes" / f"llama_{size}.yaml").read_text())
    keys = {
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_size",
        "intermediate_size": "intermediate_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
    }
    for ours, theirs in keys.items():
        assert SIZES[f"llama-{size}"][theirs] == recipe["model"][ours]


@pytest.mark.parametrize(
    ("size", "billions"),  # of the models' own pages
    [
        ("7b", 6.738),
        ("8b", 8.030),
        ("13b", 13.016),
        ("33b", 32.529),
        ("65b", 65.286),
        ("70b", 68.977),
    ],
)
def test_the_public_sizes_have_the_parameters_that_they_have(
    capsys: pytest.CaptureFixture[str], size: str, billions: float
) -> None:
    plan = planned(capsys, "--model", f"llama-{size}", "--world-size", "1024", "--zero", "3")
    assert plan["parameters"] / 1e9 == pytest.approx(billions, abs=5e-4)
    assert sum(rank["modules"] for rank in plan["refresh"]["ranks"]) == len(
        plan["refresh"]["modules"]
    )


def test_a_plan_takes_no_torch_whose_import_takes_longer(tmp_path: Path) -> None:
    """Of known sizes, of a config.json and of a folder that has one; so nothing is allocated."""
    config(tmp_path)
    program = (
        "import sys\n"
        "from alphadecay.cli import main\n"
        "for model in sys.argv[1:]:\n"
        "    assert main(['plan', '--model', model, '--world-size', '64', '--zero', '3']) == 0\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    models = ["llama-70b", str(tmp_path / "config.json"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", program, *models],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False False"


def test_a_row_of_the_table_has_the_fields_of_an_estimate() -> None:
    assert len(FIELDS) == ROW


def test_a_plan_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config(tmp_path)
    plan = planned(capsys, "--model", file, "--world-size", "2", "--zero", "3", "--device", "cpu")
    # four of 8 x 8 and three of 12 x 8, an embedding and a head of 10 x 8, three gains
    assert plan["parameters"] == 4 * 64 + 3 * 96 + 160 + 24
    assert plan["memory"] | {"refresh": 0} == {
        "weights": 2 * 364,
        "gradients": 4 * 364,
        "optimizer": 12 * 364,
        "refresh": 0,
    }
    # three dear ones and four cheap ones: one rank has two of the dear, and one cheap less
    assert sorted(rank["modules"] for rank in plan["refresh"]["ranks"]) == [3, 4]
    # every module is cut in halves: its owner gets one from the other rank, in bf16
    received = [m["received"] for m in plan["refresh"]["modules"]]
    assert sorted(received) == [64] * 4 + [96] * 3
    sent = [rank["sent"] for rank in plan["refresh"]["ranks"]]
    assert sum(sent) == sum(received)
    seconds = plan["refresh"]["solving"] + plan["refresh"]["moving"]
    assert plan["refresh"]["seconds"] == pytest.approx(seconds)
    moving = max(sent) / 6.4e8 + (plan["refresh"]["rounds"] + 1) * 0.8e-3
    assert plan["refresh"]["moving"] == pytest.approx(moving)
    assert plan["step"]["seconds"] == pytest.approx(
        6 * plan["parameters"] * 131072 / (2 * plan["machine"]["training"])
    )


def test_replicas_send_nothing_and_own_in_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(capsys, "--model", config(tmp_path), "--world-size", "3", "--step-seconds", "2")
    assert {m["received"] for m in plan["refresh"]["modules"]} == {0}
    busiest = max(rank["seconds"] for rank in plan["refresh"]["ranks"])
    assert plan["refresh"]["solving"] == pytest.approx(busiest)
    seconds = plan["refresh"]["seconds"]
    assert seconds == pytest.approx(busiest + plan["machine"]["latency"])
    assert plan["share"] == pytest.approx(seconds / (1000 + seconds))
    assert plan["memory"]["weights"] == 4 * plan["parameters"]


def test_copies_of_a_group_share_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(capsys, "--model", config(tmp_path), "--world-size", "4", "--fsdp", "2")
    assert {m["owner"] for m in plan["refresh"]["modules"]} == {0, 1, 2, 3}
    whole = planned(capsys, "--model", config(tmp_path), "--fsdp", "2")
    assert plan["memory"] == whole["memory"]
    assert whole["world_size"] == 2


@pytest.mark.parametrize("flag", [["--zero", "3"], ["--fsdp", "64"], ["--zero", "1"], []])
@pytest.mark.parametrize("model", ["llama-60m", "llama-70b"])
@pytest.mark.parametrize("more", [[], ["--modules"]])
def test_it_fits_eighty_columns(
    capsys: pytest.CaptureFixture[str], flag: list[str], model: str, more: list[str]
) -> None:
    assert main(["plan", "--model", model, "--world-size", "1024", *flag, *more]) == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    for said in ("imbalance", "share", "together", "measured", f"{model}: "):
        assert said in text
    assert "\x1b" not in text


def test_a_folder_is_its_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_file = planned(capsys, "--model", config(tmp_path))
    by_folder = planned(capsys, "--model", str(tmp_path))
    assert by_file | {"model": ""} == by_folder | {"model": ""}


def test_another_architecture_is_reckoned_from_the_headers_of_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {
        "net.embed.weight": torch.zeros(20, 8),
        "net.blocks.0.mixer_proj.weight": torch.zeros(12, 8),
        "net.blocks.1.mixer_proj.weight": torch.zeros(12, 8),
        "net.blocks.1.mystery.weight": torch.zeros(8, 8),
        "net.norm.weight": torch.zeros(8),
        "net.steps": torch.zeros(3, dtype=torch.int64),
    }
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "ours"}')
    plan = planned(capsys, "--model", str(tmp_path), "--world-size", "2", "--zero", "3")
    assert plan["parameters"] == 160 + 2 * 96 + 64 + 8
    names = {module["name"]: module["received"] for module in plan["refresh"]["modules"]}
    assert names == {
        "net.blocks.0.mixer_proj.weight": 96,
        "net.blocks.1.mixer_proj.weight": 96,
        "net.blocks.1.mystery.weight": 64,
    }
    assert main(["plan", "--model", str(tmp_path / "model.safetensors")]) == 0
    assert "net.blocks.1.mystery.weight" in capsys.readouterr().out  # taken for its two axes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "known sizes are llama-60m"),
        ("{", "holds no JSON: "),
        ("[1]", "holds a list, need a JSON object"),
        (json.dumps({"model_type": "mamba"}), "model_type is mamba"),
    ],
)
def test_what_is_no_model_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, said: str
) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    assert main(["plan", "--model", str(file)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and said in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--world-size", "6", "--fsdp", "4"], "--fsdp 4 does not divide --world-size 6"),
        (["--world-size", "0"], "0 is not at least 1"),
        (["--world-size", "99999999"], "99,999,999 is more than 65,536"),
        (["--zero", "1", "--fsdp", "2"], "not allowed with"),
        (["--step-seconds", "nan"], "nan is not above 0"),
    ],
)
def test_what_does_not_go_together_is_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    try:
        code = main(["plan", "--model", "llama-60m", *arguments])
    except SystemExit as stopped:  # argparse's own
        code = int(stopped.code or 0)
    assert code == 2 and said in capsys.readouterr().err


def test_names_of_all_layers_and_experts_are_one_type() -> None:
    assert type_of("model.layers.3.self_attn.q_proj.weight") == "q"
    assert type_of("model.layers.3.mlp.experts.gate_up_proj[12.gate]") == "gate_up.gate"
    assert type_of("model.layers.3.mlp.experts.down_proj[12]") == "down"
    assert type_of("transformer.h.0.attn.c_attn.weight[q]") == "c_attn.q"


def test_ranges() -> None:
    assert ranges([3, 1, 0, 2, 8, 8]) == "0-3, 8"
    assert ranges([]) == ""
