"""A state by the parameters' names fills what each rank holds, and says what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from alphadecay import AdamW
from alphadecay.sharding.base import Span
from tests.unit.train.checkpoint.saving import DeepSpeed
from train.engines.by_name import PARAMETERS, Common, is_universal, load_by_name
from train.engines.deepspeed import DeepSpeedEngine
from train.errors import UserError

SHAPE = (4, 6)
WHOLE = {
    kind: more + torch.arange(24.0).view(SHAPE)
    for kind, more in (("fp32", 0), ("exp_avg", 100), ("exp_avg_sq", 200))
}


class Tied(nn.Module):
    """Two names of one weight, as an embedding and a head have them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(*SHAPE[::-1], bias=False)
        self.second = self.first


@pytest.fixture
def state(tmp_path: Path) -> Path:
    place = tmp_path / PARAMETERS / "second.weight"
    place.mkdir(parents=True)
    for kind, whole in WHOLE.items():
        torch.save({"param": whole}, place / f"{kind}.pt")
    torch.save(torch.tensor(7.0), place / "step.pt")
    Common({"step": 9}, 8).write(tmp_path)
    return tmp_path


def load(state: Path, held: torch.Tensor, **where: object) -> tuple[dict[str, object], Common]:
    """Fill a tensor that an optimizer updates; return the optimizer's state of it."""
    module = Tied()
    optimizer = AdamW([held], lr=0.1)
    span = Span(module.first.weight, tensor=held, group=0, **where)  # type: ignore[arg-type]
    common = load_by_name(state, module, [span], optimizer)
    return optimizer.state[held], common


def test_a_run_of_elements_inside_a_flat_partition(state: Path) -> None:
    held = torch.full((10,), -1.0)
    own, common = load(state, held, start=5, length=7, offset=2)
    elements = slice(5, 12)
    assert held.tolist() == [-1, -1, *WHOLE["fp32"].flatten()[elements].tolist(), -1]
    for kind in ("exp_avg", "exp_avg_sq"):
        moment = own[kind]
        assert isinstance(moment, torch.Tensor)
        assert moment.tolist() == [0, 0, *WHOLE[kind].flatten()[elements].tolist(), 0]
    assert own["step"] == 7
    assert (common.client_state, common.steps) == ({"step": 9}, 8)


def test_columns_of_all_rows(state: Path) -> None:
    held = torch.zeros(4, 2)
    own, _ = load(state, held, start=0, length=8, offset=0, columns=(3, 5))
    assert torch.equal(held, WHOLE["fp32"][:, 3:5])
    assert torch.equal(own["exp_avg"], WHOLE["exp_avg"][:, 3:5])  # type: ignore[arg-type]


def test_a_rank_that_holds_nothing_of_it_counts_its_steps_all_the_same(state: Path) -> None:
    held = torch.ones(3)
    own, _ = load(state, held, start=0, length=0, offset=0)
    assert held.tolist() == [1, 1, 1] and own["step"] == 7


def test_before_the_first_step_there_are_no_moments(state: Path) -> None:
    for name in ("exp_avg", "exp_avg_sq", "step"):
        (state / PARAMETERS / "second.weight" / f"{name}.pt").unlink()
    held = torch.zeros(24)
    own, _ = load(state, held, start=0, length=24, offset=0)
    assert torch.equal(held, WHOLE["fp32"].flatten())
    assert own["step"] == 0 and not own["exp_avg"].any()  # type: ignore[attr-defined]


@pytest.mark.parametrize("missing", ["common.pt", f"{PARAMETERS}/second.weight/exp_avg_sq.pt"])
def test_what_is_missing_is_named(state: Path, missing: str) -> None:
    (state / missing).unlink()
    with pytest.raises(UserError, match=f"there is no {missing}; it is of another model"):
        load(state, torch.zeros(24), start=0, length=24, offset=0)


def test_an_optimizer_on_a_disk_takes_none(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeepSpeed, "zero_nvme_offload_optimizer", lambda self: True)
    handle = DeepSpeed()
    handle.load_universal_checkpoint = lambda: False  # type: ignore[attr-defined]
    assert is_universal(state)
    with pytest.raises(UserError, match="this run's is on an NVMe disk; offload it to the cpu"):
        DeepSpeedEngine(handle).read_state(state)
