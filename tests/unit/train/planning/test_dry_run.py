"""A dry run says what a run would be and what would stop it, all at once, and leaves nothing
behind.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from train.config import ModelConfig
from train.config.arguments import DryRunFlags, split_dry_run
from train.config.command_line import dump_config, load_config
from train.errors import UserError
from train.models.build import build_model
from train.planning.activations import count_activations
from train.planning.command import main
from train.planning.dry_run import dry_run

TINY = [
    "--model.vocab_size=320",
    "--model.hidden_size=64",
    "--model.intermediate_size=160",
    "--model.num_layers=2",
    "--model.num_heads=2",
    "--data.source=stdlib",
    "--data.sequence_length=32",
    "--run.precision=float32",
    "--run.steps=50",
    "--optim.warmup_steps=5",
]
SIZES = {"--deepspeed.config": "ds_configs/zero3.json", "--run.micro_batch": "16"}


def with_sizes(*arguments: str) -> list[str]:
    """The arguments, and sizes that they do not give."""
    given = {word.partition("=")[0] for word in arguments}
    return [*arguments, *(f"{key}={value}" for key, value in SIZES.items() if key not in given)]


def report(tmp_path: Path, world_size: int, *arguments: str) -> tuple[str, list[str]]:
    here = [f"--output_dir={tmp_path}/run", f"--data.directory={tmp_path}/data"]
    found = dry_run(load_config([*TINY, *here, *with_sizes(*arguments)]), world_size)
    blocks = ["\n".join(block) for block in found.details]
    text = "\n".join([found.answer, *found.facts, *blocks, found.configuration])
    return text, list(found.problems)


def test_what_it_says(tmp_path):
    text, problems = report(tmp_path, 4, "--run.global_batch=8", "--run.micro_batch=2")
    assert problems == [] and list(tmp_path.iterdir()) == []
    head = text.splitlines()[:3]
    assert head[0] == "It would run."
    assert re.fullmatch(r"4 ranks, 1 x 2 rows a step, about 0\.00\d+ GB of memory each\.", head[1])
    assert head[2] == "12,800 tokens in 50 steps; starts from step 0."
    for part in (
        "hidden_size: 64",
        "Parameters 0.14M",
        "ZeRO-3 on 4 ranks, float32",
        "Gradients: accumulated over micro batches in float32, reduced over ranks in float32",
        "Tokens 12,800: 50 steps",
        "not prepared yet",
        "14 modules on 4 owner ranks in 4 rounds",
        "rank 3:",
        "a refresh takes about",
        "starts from step 0",
    ):
        assert part in text, part


def test_rates_by_module_are_told_with_their_range(tmp_path):
    own = ("--decay.drives=lr", "--decay.lr_s2=4", "--decay.lr_until=0.2", "--decay.lr_ramp=5")
    text, problems = report(tmp_path, 1, *own)
    assert problems == []
    assert (
        "learning rates by module: 1 to 4 times optim.lr 0.001, embeddings and head 5 times, "
        "each reached over 5 steps, until step 10"
    ) in text


def test_every_mistake_is_told_at_once(tmp_path):
    path = tmp_path / "mine.json"
    offload = {"device": "cpu", "ratio": 0.5}
    path.write_text(json.dumps({"zero_optimization": {"stage": 3, "offload_optimizer": offload}}))
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000010"
    checkpoint.mkdir(parents=True)
    files = ["--deepspeed.config", str(path), "--data.tokenizer", str(tmp_path / "none.model")]
    _, problems = report(
        tmp_path,
        2,
        *files,
        "--run.global_batch=8",
        "--run.micro_batch=2",
        "--model.fused_cross_entropy=liger",
    )
    said = "\n".join(problems)
    for part in ("ratio 0.5", "none.model does not exist", "fused_cross_entropy"):
        assert part in said, said
    _, problems = report(
        tmp_path, 3, "--run.global_batch=8", "--run.micro_batch=2", "--optim.weight_decay=0"
    )
    said = "\n".join(problems)
    assert "run.global_batch is 8" in said and "optim.weight_decay, which is 0" in said


@pytest.mark.parametrize(
    ("zero", "part"),
    [
        ({"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/tmp"}}, "NVMe"),
        ({"stage": 2, "zenflow": {"topk_ratio": 0.1}}, "ZenFlow"),
        (
            {"stage": 2, "offload_optimizer": {"device": "cpu", "super_offload": True}},
            "SuperOffload",
        ),
    ],
)
def test_what_alphadecay_refuses(tmp_path, zero, part):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"zero_optimization": zero}))
    _, problems = report(
        tmp_path, 1, "--deepspeed.config", str(path), "--run.global_batch=2", "--run.micro_batch=2"
    )
    assert len(problems) == 1 and part in problems[0] and str(path) in problems[0]


def test_a_folder_that_cannot_be_written(tmp_path):
    _, problems = report(tmp_path, 1, "--run.global_batch=2", "--run.micro_batch=2")
    assert problems == []
    config = load_config(
        [
            *TINY,
            "--output_dir=/proc/version/run",
            f"--data.directory={tmp_path}",
            "--run.global_batch=16",
            *with_sizes(),
        ]
    )
    assert any(
        "/proc/version cannot be written" in problem for problem in dry_run(config, 1).problems
    )


def test_a_large_model_takes_neither_time_nor_memory(tmp_path):
    program = [
        str(ROOT / "train/pretrain.py"),
        "--config",
        str(ROOT / "train/recipes/llama_1b.yaml"),
        "--dry-run",
        "--world-size",
        "16",
        "--device",
        "h100-80gb",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *program, f"--output_dir={tmp_path}/run"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert (
        "Parameters 1,339.08M" in done.stdout and "168 modules on 16 owner ranks" in done.stdout
    ), done.stdout + done.stderr
    assert int(done.stdout.rsplit("peak ", 1)[1]) < 2_500_000  # kB; the weights alone are 5.4 GB


_MEASURED = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("recomputed", [False, True])
def test_activations_are_those_of_the_model(recomputed):
    """The count on fake tensors against the bytes that autograd keeps of a real forward pass."""
    model = ModelConfig(
        vocab_size=97, hidden_size=64, intermediate_size=160, num_layers=5, num_heads=2
    )
    llama = build_model(model, 24, seed=0).train()
    weights = {p.untyped_storage().data_ptr() for p in llama.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    tokens = torch.zeros(3, 24, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        llama(input_ids=tokens, labels=tokens)
    real = sum(
        tensor.untyped_storage().nbytes()
        for pointer, tensor in kept.items()
        if pointer not in weights
    )
    counted = count_activations(
        replace(model, activation_checkpointing=recomputed), 3, 24, bf16=False
    )
    if not recomputed:
        assert counted.layers + counted.head == pytest.approx(real, rel=0.02)
        return
    plain = count_activations(model, 3, 24, bf16=False)
    assert counted.head == plain.head and counted.layers == 5 * 3 * 24 * 64 * 4 + plain.layers // 5


def test_the_flags():
    def flags(*words: str) -> tuple[list[str], DryRunFlags | None]:
        return split_dry_run(words, 2)

    assert flags("--run.steps", "3") == (["--run.steps", "3"], None)
    assert flags("--dry-run", "--run.steps", "3") == (["--run.steps", "3"], DryRunFlags(2, ""))
    assert flags("--world-size", "16", "--config", "x", "--dry-run") == (
        ["--config", "x"],
        DryRunFlags(16, ""),
    )
    assert flags("--dry-run", "--device", "h100-80gb", "--world-size=8") == (
        [],
        DryRunFlags(8, "h100-80gb"),
    )
    assert flags("--device=24gb", "--dry-run") == ([], DryRunFlags(2, "24gb"))


@pytest.mark.parametrize(
    "wrong",
    [
        ["--world-size", "2"],
        ["--dry-run", "--world-size"],
        ["--dry-run", "--world-size=x"],
        ["--dry-run", "--world-size=0"],
        ["--device", "h100"],
        ["--dry-run", "--device"],
    ],
)
def test_wrong_flags(wrong):
    with pytest.raises(UserError, match=r"--world-size|--device"):
        split_dry_run(wrong, 1)


def printed(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit code, and the lines of stdout and stderr."""
    code = main(arguments)
    out, err = capfd.readouterr()
    return code, out.splitlines(), err.splitlines()


def test_the_answer_comes_first_and_the_configuration_last(tmp_path, capfd):
    path = tmp_path / "mine.yaml"
    folders = [f"--output_dir={tmp_path}/run", f"--data.directory={tmp_path}/d"]
    values = load_config([*TINY, *folders, *with_sizes()])
    path.write_text(dump_config(values))
    code, out, err = printed(capfd, "--config", str(path), "--world-size", "4")
    assert (code, err, out[0]) == (0, [], "It would run.")
    assert out[1].startswith("4 ranks, 8 x 16 rows a step, about ")
    at = out.index("# The configuration")
    assert "\n".join(out[at + 1 :]) == dump_config(values).strip()
    assert max(map(len, out[:at])) <= 100 + len(str(tmp_path))

    code, out, err = printed(capfd, "--config", str(path), "--world-size", "3")
    assert (code, out[0]) == (2, "It would not run: 1 problem.")
    assert len(err) == 1 and err[0].startswith("error: run.global_batch is 512")
    code, out, err = printed(
        capfd, "--config", str(path), "--optim.weight_decay=0", "--world-size=3"
    )
    assert (code, out[0], len(err)) == (2, "It would not run: 2 problems.", 2)


def test_a_named_device_has_auto_choose_and_the_configuration_shows_it(tmp_path, capfd):
    arguments = [*TINY, f"--output_dir={tmp_path}/run", f"--data.directory={tmp_path}/d"]
    path = tmp_path / "mine.yaml"
    path.write_text(dump_config(load_config(arguments)))
    code, out, err = printed(
        capfd, "--config", str(path), "--world-size", "4", "--device", "h100-80gb"
    )
    assert (code, err) == (0, []) and "4 ranks, 1 x 128 rows a step" in out[1]
    [line] = [line for line in out if line.startswith("auto takes ")]
    assert "ds_configs/zero1.json and a micro batch of 128" in line
    assert "H100 (80 GB); a rank's whole batch; 20% stays free" in line
    shown = "\n".join(out)
    assert "  micro_batch: 128\n" in shown and "config: ds_configs/zero1.json\n" in shown

    code, out, err = printed(capfd, "--config", str(path), "--device=0.001gb")
    assert (code, out[0]) == (2, "It would not run: 1 problem.")
    assert "nothing fits 1 rank on GPU (0.001 GB)" in err[0] and "more ranks" in err[0]
    code, out, err = printed(capfd, "--config", str(path), "--device=h1000")
    assert (code, out) == (2, []) and "--device takes a GPU such as h100-80gb" in err[0]
    code, out, err = printed(capfd, "--config", str(path), "--world-size=3", "--device=h100")
    assert code == 2 and "no multiple of the world size 3" in err[0]


def test_wrong_values_are_all_told(capfd):
    code, out, err = printed(capfd, "--config", "quickstart", "--run.steps=x", "--optim.lr=0")
    assert (code, out, err[0]) == (2, [], "error: 2 problems:")
    code, out, err = printed(capfd)
    assert code == 2 and err[0].startswith("error: no recipe; add --config NAME with one of ")


def test_the_programs_own_flag_says_the_same(tmp_path):
    arguments = ["--config", "quickstart", "--world-size", "2", f"--output_dir={tmp_path}/run"]
    said = []
    for program in (["train/pretrain.py", "--dry-run"], ["train", "dry-run"]):
        command = [sys.executable, str(ROOT / program[0]), *program[1:], *arguments]
        done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr
        said.append(re.sub(r"takes about [\d.,]+ s", "", done.stdout))
    assert said[0] == said[1]


def test_a_base_decay_of_its_own_is_said_once_it_is_known(tmp_path, monkeypatch):
    auto = ("--decay.base=auto", "--run.global_batch=16")
    text, problems = report(tmp_path, 1, *auto)
    assert problems == []
    assert "\ndecay.base auto: the base decay is known once the text is prepared\n" in text
    monkeypatch.setattr("train.loop.auto_decay.passes_over_text", lambda config: 9.0)
    text, problems = report(tmp_path, 1, *auto)
    assert problems == []
    (said,) = re.findall(r"the base decay is ([\d.]+), the root of 9 passes over the text", text)
    assert f"  weight_decay: {float(said)}\n" in text
    text, problems = report(tmp_path, 1, "--optim.name=adam", *auto)
    assert ["the rule is of adamw, and optim.name is adam" in each for each in problems] == [True]
