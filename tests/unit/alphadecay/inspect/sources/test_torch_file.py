"""Files of torch.save: what is read of them, and what is not loaded."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources import open_source
from alphadecay.inspect.sources.restricted import Mapped

STATE = {"up.weight": torch.arange(12.0).view(3, 4), "up.bias": torch.ones(3)}


class Bomb:
    """Pickles as a call of os.system."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.made}",))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "held",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(3, 4)}}}},
        {"weights_of_mine": STATE},
        {"rng_state": torch.ones(5), "state_dict": STATE},
    ],
)
def test_the_state_dict_is_found(held: Any, legacy: bool, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    source = open_source(tmp_path / "x.pt")
    assert set(source.tensors) == set(STATE) and not source.broken
    for name, tensor in source.tensors.items():
        assert torch.equal(tensor.read().view(tensor.shape), STATE[name])
    assert source.tensors["up.weight"].read((2, 5)).tolist() == [2, 3, 4]


@pytest.mark.parametrize("place", ["top", "inside", "legacy"])
def test_a_bomb_does_not_go_off(place: str, tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "made")
    held = bomb if place == "top" else {**STATE, "bomb": bomb}
    torch.save(held, tmp_path / "x.bin", _use_new_zipfile_serialization=place != "legacy")
    with pytest.raises(InspectError, match="holds more than tensors and plain values"):
        open_source(tmp_path / "x.bin")
    assert not (tmp_path / "made").exists()


def test_a_whole_module_is_not_loaded_and_the_way_out_is_said(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 4), tmp_path / "x.pt")
    with pytest.raises(InspectError, match=r"asks for torch.*save the model's state_dict\(\)"):
        open_source(tmp_path / "x.pt")


def test_a_tensor_that_repeats_its_storage_is_not_read(tmp_path: Path) -> None:
    large = torch.ones(1).expand(10**6, 10**6)
    torch.save({**STATE, "large.weight": large}, tmp_path / "x.pt")
    source = open_source(tmp_path / "x.pt")
    assert set(source.broken) == {"large.weight"}
    assert "it claims 4,000,000,000,000 bytes" in source.broken["large.weight"]


def test_other_kinds_of_tensors_are_named(tmp_path: Path) -> None:
    torch.save({**STATE, "s.weight": torch.eye(3).to_sparse()}, tmp_path / "x.pt")
    assert set(open_source(tmp_path / "x.pt").broken) == {"s.weight"}


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1000, 1000)}, tmp_path / "x.pt")
    plain = zipfile.ZipFile(tmp_path / "x.pt")
    with plain, zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(InspectError, match="more than it has"):
        open_source(tmp_path / "y.pt")


@pytest.mark.filterwarnings("error")
def test_a_plain_pickle_is_refused_without_torchs_advice_to_load_it(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"bomb": Bomb(tmp_path / "made")}, protocol=4))
    with pytest.raises(InspectError, match="more than tensors") as error:
        open_source(tmp_path / "x.pt")
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_file_is_told(kept: int, tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[:kept])
    with pytest.raises(InspectError, match=r"x\.pt"):
        open_source(tmp_path / "x.pt")


def test_of_a_truncated_file_the_way_out_is_said(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[:-400])
    with pytest.raises(InspectError, match=r"truncated one.*fetch it again"):
        open_source(tmp_path / "x.pt")


@pytest.mark.parametrize("held", [[1, 2], {"a": 1}, 3, {"w": {"v": [torch.ones(2)]}}])
def test_a_file_without_a_state_dict_is_told(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "x.pt")
    with pytest.raises(InspectError, match="no state dict"):
        open_source(tmp_path / "x.pt")


def test_one_file_is_mapped_at_a_time_and_anew_after_much_was_read() -> None:
    opened: list[str] = []
    first = Mapped(lambda: opened.append("first") or object())
    second = Mapped(lambda: opened.append("second") or object())
    held = first.get(10)
    assert first.get(10) is held
    second.get(10)
    assert first.get(10) is not held
    first.get(2 << 30)
    assert opened == ["first", "second", "first", "first"]
