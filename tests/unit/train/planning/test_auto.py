"""What auto takes on which device, that it fits, and what it takes next."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.command_line import dump_config, load_config
from train.config.run_folder import CHECKPOINTS, CONFIG
from train.errors import UserError
from train.planning.auto import choose, choose_here
from train.planning.device import GB, Device, named_device, this_device
from train.planning.earlier import earlier_size
from train.planning.sizes import CPU_TOKENS, FILLED, Size, Sizes

FUSED = ("--model.fused_cross_entropy", "true")
# LLaMA-7B with rows of 2,048 tokens.
LARGE = (
    "--model.hidden_size=4096",
    "--model.intermediate_size=11008",
    "--model.num_layers=32",
    "--model.num_heads=32",
    "--data.sequence_length=2048",
    "--run.global_batch=2048",
)
MODELS = {
    "60M": ("--config", "llama_60m", *FUSED),
    "135M": ("--config", "llama_130m", *FUSED),
    "350M": ("--config", "llama_350m", *FUSED),
    "1B": ("--config", "llama_1b", *FUSED),
    "7B": (*LARGE, *FUSED),
}
GPUS = (1, 8, 64)
MEMORY = (24, 80, 141)
# What is taken, by GPUs and then by their memory in GB.
TABLE = {
    "60M": [["zero1 256", "zero1 512", "zero1 512"], ["zero1 64"] * 3, ["zero1 8"] * 3],
    "135M": [["zero1 128", "zero1 512", "zero1 512"], ["zero1 64"] * 3, ["zero1 8"] * 3],
    "350M": [
        ["zero1 32", "zero1 128", "zero1 256"],
        ["zero1 32", "zero1 64", "zero1 64"],
        ["zero1 8"] * 3,
    ],
    "1B": [
        ["zero2_offload 256", "zero1 512", "zero1 512"],
        ["zero1 64"] * 3,
        ["zero1 8"] * 3,
    ],
    "7B": [
        ["-", "zero2_offload 2", "zero2_offload 4"],
        ["zero3_offload 1", "zero3 2", "zero1 2"],
        ["zero3 1", "zero3 4", "zero1 4"],
    ],
}
ON_CPU = Device("cpu", 12 * GB, cuda=False, bf16=False)


def config(*arguments: str) -> TrainConfig:
    return load_config(list(arguments))


def gpu(memory: float) -> Device:
    return Device("GPU", memory * GB, cuda=True, bf16=True)


def taken(model: str, ranks: int, memory: int) -> str:
    """ZeRO and rows; what is taken fits, and the next larger micro batch would not."""
    c = config(*MODELS[model])
    try:
        choice = choose(c, ranks, gpu(memory))
    except UserError as error:
        assert "nothing fits" in str(error)
        return "-"
    size = choice.size
    assert choice.memory.peak <= FILLED * memory * GB
    whole = c.run.global_batch // ranks
    assert whole % size.micro_batch == 0
    if size.micro_batch < whole:
        assert f"{2 * size.micro_batch} would take" in choice.line
    return f"{size.ds_config.removeprefix('ds_configs/').removesuffix('.json')} {size.micro_batch}"


@pytest.mark.parametrize("model", TABLE)
def test_what_is_taken(model: str) -> None:
    assert [[taken(model, ranks, memory) for memory in MEMORY] for ranks in GPUS] == TABLE[model]


def test_the_line_says_what_and_why() -> None:
    line = choose(config(*MODELS["1B"]), 1, gpu(24)).line
    assert line.startswith(
        "auto takes ds_configs/zero2_offload.json and a micro batch of 256: about 18.1 GB on GPU "
        "(24 GB); zero1 with 1 would take 27"
    )
    assert line.endswith("512 would take 33 GB; 20% stays free")


def test_each_may_be_fixed_alone() -> None:
    recipe = MODELS["350M"]
    choice = choose(config(*recipe, "--run.micro_batch=16"), 8, gpu(24))
    assert choice.size == Size("ds_configs/zero1.json", 16)
    assert choice.line.startswith("auto takes ds_configs/zero1.json: about ")
    choice = choose(config(*recipe, "--deepspeed.config=ds_configs/zero2.json"), 8, gpu(24))
    assert choice.size == Size("ds_configs/zero2.json", 32)
    assert choice.line.startswith("auto takes a micro batch of 32: about ")
    assert choice.config.deepspeed.config == "ds_configs/zero2.json"
    with pytest.raises(UserError, match="24 x 8 = 192"):
        choose(config(*recipe, "--run.micro_batch=24"), 8, gpu(24))


def test_nothing_else_is_changed() -> None:
    c = config(*MODELS["60M"])
    choice = choose(c, 8, gpu(24))
    assert choice.config == dataclasses.replace(
        c,
        run=dataclasses.replace(c.run, micro_batch=64),
        deepspeed=dataclasses.replace(c.deepspeed, config="ds_configs/zero1.json"),
    )
    assert "auto" not in (choice.config.run.micro_batch, choice.config.deepspeed.config)


def test_a_validation_has_rows_of_its_own_where_its_logits_would_not_fit() -> None:
    """A loss without logits leaves room for more rows than a validation with them has."""
    choice = choose(config(*MODELS["60M"]), 1, gpu(24))
    assert (choice.config.run.micro_batch, choice.config.eval.micro_batch) == (256, 128)
    assert choice.memory.in_evaluation <= FILLED * 24 * GB
    given = choose(config(*MODELS["60M"], "--eval.micro_batch=200"), 1, gpu(24))
    assert given.config.eval.micro_batch == 200 and given.memory.peak <= FILLED * 24 * GB
    with pytest.raises(UserError, match=r"nothing fits.*, a smaller --eval.micro_batch"):
        choose(config(*MODELS["60M"], "--eval.micro_batch=300"), 1, gpu(24))


def test_recomputed_activations_and_a_loss_with_logits_change_what_fits() -> None:
    recipe = ("--config", "llama_350m")
    rows = [
        choose(config(*recipe, *words), 1, gpu(80)).size.micro_batch
        for words in (
            ("--model.fused_cross_entropy", "false"),
            FUSED,
            (*FUSED, "--model.activation_checkpointing", "true"),
        )
    ]
    assert rows == sorted(rows) and rows[-1] > rows[1] == 128


def test_on_cpus_a_rank_shares_the_host_and_takes_no_more_tokens_than_help() -> None:
    c = config("--config", "llama_60m")
    choice = choose(c, 2, ON_CPU)
    assert choice.size == Size("ds_configs/zero1.json", CPU_TOKENS // c.data.sequence_length)
    assert "more than 4,096 tokens gain nothing on CPUs" in choice.line
    assert "float32" in choice.memory.title and "offload" not in choice.size.ds_config
    with pytest.raises(UserError, match=r"nothing fits 1 rank on cpu \(12 GB\).*zero.\.json"):
        choose(config("--config", "llama_1b"), 1, ON_CPU)


def test_what_ran_out_of_memory_is_followed_by_one_size_less() -> None:
    c = config(*LARGE, *FUSED)
    sizes = [choose(c, 8, gpu(80), failures=count).size for count in range(4)]
    names = [(size.ds_config[11:-5], size.micro_batch) for size in sizes]
    assert names == [("zero3", 2), ("zero3", 1), ("zero2_offload", 2), ("zero2_offload", 1)]
    line = choose(c, 8, gpu(80), failures=1).line
    assert line.endswith("; ds_configs/zero3.json and a micro batch of 2 ran out of memory")
    with pytest.raises(UserError, match=r"micro batch of 1 ran out of memory.*nothing smaller"):
        choose(c, 8, gpu(80), failures=30)
    fixed = config(*LARGE, *FUSED, "--deepspeed.config=zero3")
    assert choose(fixed, 8, gpu(80), failures=1).size == Size("zero3", 1)
    with pytest.raises(UserError, match="a micro batch of 1 ran out of memory"):
        choose(fixed, 8, gpu(80), failures=2)
    rows = config(*LARGE, *FUSED, "--run.micro_batch=2")
    assert choose(rows, 8, gpu(80), failures=1).size == Size("ds_configs/zero2_offload.json", 2)


def test_each_failure_halves_the_validation_too() -> None:
    c = config(*MODELS["60M"])
    rows = [choose(c, 1, gpu(24), failures=count).config for count in range(3)]
    assert [one.run.micro_batch for one in rows] == [256, 128, 64]
    assert [one.eval.micro_batch for one in rows] == [128, 64, 32]


def left(tmp_path: Path, c: TrainConfig) -> None:
    """A run's folder with a checkpoint of step 3."""
    saved = tmp_path / CHECKPOINTS / "step-00000003"
    saved.mkdir(parents=True)
    (saved / "manifest.json").write_text(json.dumps({"step": 3, "commit": 1}))
    (tmp_path / CONFIG).write_text(dump_config(c))


def test_a_run_that_goes_on_keeps_its_sizes(tmp_path: Path) -> None:
    c = config(*MODELS["350M"], f"--output_dir={tmp_path}")
    assert earlier_size(c) is None
    began = choose(c, 8, gpu(24))
    left(tmp_path, began.config)
    earlier = earlier_size(c)
    assert earlier == began.size == Size("ds_configs/zero1.json", 32)
    assert earlier_size(dataclasses.replace(c, resume="never")) is None

    again = choose(c, 4, gpu(80), earlier)
    assert again.size == earlier and again.line.endswith("; as the run began")
    # 512 rows are 6 a rank on no number of ranks, and 8 x 64 on 64
    other = choose(c, 64, gpu(80), earlier)
    assert other.size == Size("ds_configs/zero1.json", 8)
    assert "the run began with ds_configs/zero1.json and a micro batch of 32" in other.line
    less = choose(c, 8, gpu(8), earlier)
    assert less.size.micro_batch < 32 and "which cannot be kept" in less.line
    fixed = choose(config(*MODELS["350M"], "--run.micro_batch=16"), 8, gpu(24), earlier)
    assert fixed.size == Size("ds_configs/zero1.json", 16) and "as the run began" in fixed.line


def test_it_stays_with_its_sharding_where_only_the_rows_cannot_be_kept() -> None:
    c = config(*MODELS["60M"])
    choice = choose(c, 64, gpu(80), Size("ds_configs/zero3.json", 16))
    assert choice.size == Size("ds_configs/zero3.json", 8)
    gone = choose(c, 64, gpu(80), Size("gone.json", 8))
    assert gone.size == Size("ds_configs/zero1.json", 8)


def test_nothing_is_asked_where_nothing_is_auto(monkeypatch) -> None:
    monkeypatch.setattr("train.planning.auto.this_device", pytest.fail)
    fixed = config("--run.micro_batch=4", "--deepspeed.config=ds_configs/zero1.json")
    assert choose_here(fixed, World(0, 0, 1, torch.device("cpu"))) is None


def test_devices_by_name() -> None:
    assert named_device("h100") == named_device("H100-80gb") == Device("H100", 80e9, True, True)
    assert named_device("a100-40gb").memory == 40e9
    assert named_device("rtx-4090") == named_device("4090") == Device("RTX 4090", 24e9, True, True)
    assert named_device("cpu-16gb") == Device("cpu", 16e9, False, False)
    assert named_device("24gb") == Device("GPU", 24e9, True, True)
    for wrong in ("h1000", "cpu", "24", "", "gb", "h100-0gb"):
        with pytest.raises(UserError, match="--device takes a GPU such as h100-80gb"):
            named_device(wrong)


@pytest.mark.parametrize(
    ("name", "total", "memory"),
    [
        ("NVIDIA H100 80GB HBM3", 85.0e9, 80e9),
        ("NVIDIA A100-SXM4-40GB", 42.3e9, 40e9),
        ("NVIDIA H200", 150.0e9, 141e9),
        ("Tesla T4", 15.6e9, 15.6e9),
    ],
)
def test_a_gpu_counts_as_what_it_is_sold_as(monkeypatch, name, total, memory) -> None:
    """So that a dry run elsewhere comes to the same choice."""

    class Properties:
        total_memory = total

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    world = World(0, 0, 1, torch.device("cuda", 0))
    assert this_device(world).memory == memory


@pytest.mark.parametrize(
    ("file", "tag", "model", "rows", "stage", "fused"),
    [
        ("micro-steps", "zero1 mb32", "60m", 32, 1, False),
        ("micro-steps", "zero3 mb32", "60m", 32, 3, False),
        ("micro-steps", "zero1 mb16", "350m", 16, 1, False),
        ("micro-steps", "zero3 mb16", "350m", 16, 3, False),
        ("program-recipes", "60m-recipe", "60m", 32, 3, False),
        ("program-recipes", "60m-m512-liger", "60m", 512, 3, True),
    ],
)
def test_what_was_measured_on_a_gpu(
    file: str, tag: str, model: str, rows: int, stage: int, fused: bool
) -> None:
    """What torch had allocated at most on an H200, with version 0.1; the last in a validation."""
    entries = json.loads((ROOT / f"tests/bench/results/h200-0.1/{file}.json").read_text())
    [entry] = [entry for entry in entries if entry["tag"] == tag]
    measured = entry.get("peak_gib", 0) * 2**30 or entry["memory"]["peak_allocated_bytes"]
    c = config(
        "--config",
        f"llama_{model}",
        f"--run.micro_batch={rows}",
        f"--deepspeed.config=ds_configs/zero{stage}.json",
        f"--model.fused_cross_entropy={str(fused).lower()}",
    )
    predicted = Sizes(c, 1, named_device("h200")).table(c).peak
    assert predicted == pytest.approx(measured, rel=0.1)
