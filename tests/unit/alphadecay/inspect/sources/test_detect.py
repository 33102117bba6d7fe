"""Every kind of folder is found for what it is; what is none is told with what to give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources import open_source
from tests.unit.alphadecay.inspect.deepspeed_files import WEIGHTS, write_zero1

STATE = {name: torch.randn(3, 4) for name in ("layers.0.q_proj.weight", "layers.1.q_proj.weight")}


def save_dcp(folder: Path, held: dict[str, torch.Tensor]) -> None:
    dcp.save(held, checkpoint_id=folder, no_dist=True)


def values(path: Path) -> dict[str, list[float]]:
    return {name: t.read().tolist() for name, t in open_source(path).tensors.items()}


def of(tensors: dict[str, torch.Tensor]) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in tensors.items()}


def write_run(folder: Path, steps: dict[str, int]) -> None:
    """Write checkpoints of a run, by name -> number of the commit; weights are that number."""
    for name, commit in steps.items():
        path = folder / "checkpoints" / name
        path.mkdir(parents=True)
        manifest = {"step": int(name[-8:]), "commit": commit, "model": {"vocab_size": 90}}
        (path / "manifest.json").write_text(json.dumps(manifest))
        save_dcp(
            path / "state",
            {
                "model.fc.weight": torch.full((2, 2), float(commit)),
                "step.fc.weight": torch.ones(()),
            },
        )


def test_a_distributed_checkpoint_without_its_optimizer(tmp_path: Path) -> None:
    moments = {f"optimizer.state.{name}.exp_avg": weight for name, weight in STATE.items()}
    save_dcp(tmp_path / "c", {f"model.{name}": w for name, w in STATE.items()} | moments)
    assert values(tmp_path / "c") == of(STATE)


@pytest.mark.parametrize("given", ["", "checkpoints", "checkpoints/step-00000003"])
def test_a_runs_newest_checkpoint_is_the_last_that_was_committed(
    given: str, tmp_path: Path
) -> None:
    write_run(tmp_path, {"step-00000009": 1, "step-00000003": 2})
    source = open_source(tmp_path / given)
    assert {n: t.read().tolist() for n, t in source.tensors.items()} == {"fc.weight": [2.0] * 4}
    assert source.config == {"vocab_size": 90}
    assert source.form.startswith("a checkpoint of step 3, ")


def test_a_deepspeed_folder_and_the_one_that_latest_names(tmp_path: Path) -> None:
    write_zero1(tmp_path / "global_step5", ranks=2)
    (tmp_path / "latest").write_text("global_step5")
    for path in (tmp_path, tmp_path / "global_step5"):
        assert values(path) == of(WEIGHTS)


def test_a_latest_that_leads_out_is_refused(tmp_path: Path) -> None:
    write_zero1(tmp_path / "secret", ranks=1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "latest").write_text("../secret")
    with pytest.raises(InspectError, match="outside of it"):
        open_source(tmp_path / "model")


def test_parts_of_tensor_parallelism_are_refused(tmp_path: Path) -> None:
    write_zero1(tmp_path, ranks=1)
    torch.save({}, tmp_path / "mp_rank_01_model_states.pt")
    with pytest.raises(InspectError, match="tensor or pipeline parallelism"):
        open_source(tmp_path)


def test_what_lies_beside_tensors_in_a_deepspeed_file_is_passed_over(tmp_path: Path) -> None:
    held = {"module": {**WEIGHTS, "fc._extra_state": None}, "optimizer": {}}
    torch.save(held, tmp_path / "mp_rank_00_model_states.pt")
    assert values(tmp_path) == of(WEIGHTS)


@pytest.mark.parametrize("held", [{"module": None, "optimizer": {}}, {"module": {}}, [1], None])
def test_a_deepspeed_file_of_something_else_is_told(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "mp_rank_00_model_states.pt")
    with pytest.raises(InspectError, match="cannot be read as a DeepSpeed checkpoint"):
        open_source(tmp_path)


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("alpha")
    with pytest.raises(InspectError, match=r"holds no model, but notes\.txt; give a Hugging Face"):
        open_source(tmp_path)
    with pytest.raises(InspectError, match=r"not read from \.txt files"):
        open_source(tmp_path / "notes.txt")
    with pytest.raises(InspectError, match="no such file or folder"):
        open_source(tmp_path / "missing")


def test_a_model_in_memory_without_values_is_broken() -> None:
    with torch.device("meta"):
        source = open_source(torch.nn.Linear(3, 4))
    with pytest.raises(InspectError, match="it has no values"):
        source.tensors["weight"].read()
