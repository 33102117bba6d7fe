"""Weights read from a checkpoint's files, in one process without ranks, give the logits that the
ranks had, and what is converted from them is what DeepSpeed's own converter makes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.distributed.harness import init_deepspeed, run_ranks
from train.checkpoint.manifest import Checkpoint
from train.checkpoint.safe_load import restricted, safe_load
from train.checkpoint.stored_state import read_masters
from train.checkpoint.universal import convert
from train.config import TrainConfig
from train.config.command_line import load_config
from train.engines.deepspeed import build_engine
from train.engines.ds_config import load_ds_config
from train.models.llama import SPEC

RANKS = 2
LENGTH = 16
VOCABULARY = 97
# 60 and 97 divide into two shards only with padding.
ARGUMENTS = (
    f"--model.vocab_size={VOCABULARY}",
    "--model.hidden_size=32",
    "--model.intermediate_size=60",
    "--model.num_layers=1",
    "--model.num_heads=2",
    f"--data.sequence_length={LENGTH}",
    "--run.global_batch=2",
    "--run.micro_batch=1",
    "--run.steps=9",
    "--optim.warmup_steps=1",
    "--optim.lr=0.01",
)
CASES = [(f"zero{stage}", precision) for stage in range(4) for precision in ("float32", "bf16")]
CASES += [("zero2_offload", "bf16"), ("zero3_offload", "float32")]
CASES += [
    ("zero0 tied", "bf16"),
    ("zero1 tied", "bf16"),
    ("zero2 tied", "float32"),
    ("zero3 tied", "bf16"),
]
TOKENS = torch.arange(LENGTH)[None]


def config_of(case: tuple[str, str]) -> TrainConfig:
    stage, _, tied = case[0].partition(" ")
    extra = [
        f"--deepspeed.config={ROOT}/ds_configs/{stage}.json",
        f"--run.precision={case[1]}",
        f"--model.tie_embeddings={bool(tied)}",
    ]
    return load_config([*ARGUMENTS, *extra])


def train_and_save(rank: int, folder: str) -> dict[tuple[str, str], torch.Tensor]:
    """Three steps of every case, a checkpoint of each, and the logits it had."""
    init_deepspeed()
    logits: dict[str, Any] = {}
    for case in CASES:
        config = config_of(case)
        engine: Any = build_engine(config, load_ds_config(config, 1, RANKS)).handle
        generator = torch.Generator().manual_seed(rank)
        for _ in range(3):
            tokens = torch.randint(VOCABULARY, (1, LENGTH), generator=generator)
            engine.backward(engine(input_ids=tokens, labels=tokens).loss)
            engine.step()
        engine.eval()
        with torch.no_grad():
            logits[case] = engine(input_ids=TOKENS).logits
        place = f"{folder}/{case[0]} {case[1]}"
        engine.save_checkpoint(place, tag="state", save_latest=False)
        with restricted():  # it takes all that DeepSpeed writes
            assert engine.load_checkpoint(place, tag="state")[0] is not None
        engine.destroy()
    return logits


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[tuple[str, str], torch.Tensor]]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, run_ranks(RANKS, train_and_save, str(folder))[0]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_the_masters_give_the_runs_logits(saved, case):
    folder, logits = saved
    weights = read_masters(folder / " ".join(case) / "state")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    config = config_of(case)
    model = SPEC.bare(SPEC.config(config.model, LENGTH)).eval()
    assert model.load_state_dict(weights).missing_keys == []
    if case[1] == "bf16":  # masters rounded are the weights that the ranks computed with
        assert any(not torch.equal(w, w.bfloat16().float()) for w in weights.values())
        SPEC.restore_buffers(model.bfloat16())
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=TOKENS).logits, logits[case], rtol=0, atol=0)


def test_a_damaged_shard_is_seen(saved, tmp_path):
    """The comparison above can fail: another rank's shard twice gives other logits."""
    folder, logits = saved
    case = ("zero2", "float32")
    state = tmp_path / "state"
    state.mkdir()
    for path in (folder / " ".join(case) / "state").iterdir():
        (state / path.name).write_bytes(path.read_bytes())
    first, second = sorted(state.glob("*_optim_states.pt"))
    second.write_bytes(first.read_bytes())
    model = SPEC.bare(SPEC.config(config_of(case).model, LENGTH)).eval()
    model.load_state_dict(read_masters(state))
    with torch.no_grad():
        assert not torch.allclose(model(input_ids=TOKENS).logits, logits[case], atol=1e-3)


def converted_by_deepspeed(state: Path, out: Path) -> Path:
    """The universal form, with everything unpickled in full."""
    from deepspeed.checkpoint.ds_to_universal import main

    main(
        argparse.Namespace(
            input_folder=str(state),
            output_folder=str(out / "state"),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
    )
    return out / "state" / "zero"


@pytest.mark.parametrize("case", [case for case in CASES if "zero0" not in case[0]], ids=" ".join)
def test_a_conversion_is_deepspeeds_own(saved, case, tmp_path):
    folder = saved[0] / " ".join(case)
    stage = int(case[0][4])
    manifest = {"step": 3, "zero_stage": stage, "world_size": RANKS, "files": {}}
    (folder / "manifest.json").write_text("{}")
    made = convert(Checkpoint(folder, manifest), tmp_path / "ours").path / "state" / "zero"
    theirs = converted_by_deepspeed(folder / "state", tmp_path)
    names = sorted(path.parent.name for path in made.glob("*/step.pt"))
    assert len(names) == (11 if "tied" in case[0] else 12)
    left = {path.parent.name for path in theirs.glob("*/fp32.pt")} - {*names}
    assert left <= {"lm_head.weight"}  # theirs gives a tied weight a folder without moments
    for name in names:
        for kind in ("fp32", "exp_avg", "exp_avg_sq"):
            other = safe_load(theirs / name / f"{kind}.pt")
            other = other["param"] if isinstance(other, dict) else other  # bare from stage 3
            ours = safe_load(made / name / f"{kind}.pt")["param"]
            assert torch.equal(ours.flatten(), other.flatten()), (name, kind)
        assert safe_load(made / name / "step.pt") == 3
