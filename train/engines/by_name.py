"""Reads a checkpoint's universal form into any engine, each rank what it holds of each parameter.

zero/NAME/KIND.pt    {"param": the whole tensor}; KIND is fp32, or the name of a moment
zero/NAME/step.pt    what the optimizer counts, where it counts
common.pt            the client state, and the steps to count on from

Before its first step an optimizer keeps nothing, and there is no moment to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay.inspect.sources.stored import AVERAGE, MASTER, STEP, moments_of
from alphadecay.sharding.base import Span
from train.engines.optimizer import first_moments
from train.errors import UserError

PARAMETERS = "zero"  # the folder, as DeepSpeed calls it
COMMON = "common.pt"
_OF_NEW = {MASTER, AVERAGE}  # what a parameter has before the first step


@dataclass(frozen=True)
class Common:
    """What does not belong to one parameter.

    Args:
        client_state: what the training loop had kept.
        steps: that an engine of DeepSpeed's counts on from.
    """

    client_state: dict[str, Any]
    steps: int

    def write(self, folder: Path) -> Path:
        """Write it beside the parameters, and return the file."""
        path = folder / COMMON
        torch.save({"client_state": self.client_state, "steps": self.steps}, path)
        return path


def is_universal(folder: Path) -> bool:
    """Return whether a state lies there by the parameters' names."""
    return (folder / PARAMETERS).is_dir()


def folders_of(folder: Path) -> list[Path]:
    """Return the folders of the parameters."""
    return [place for place in (folder / PARAMETERS).iterdir() if place.is_dir()]


@torch.no_grad()
def load_by_name(
    folder: Path, module: nn.Module, spans: Sequence[Span], optimizer: torch.optim.Optimizer
) -> Common:
    """Fill this rank's float32 weights and the optimizer's state of them.

    Files are mapped, so that a rank reads of them what it holds.

    Args:
        folder: of the state.
        module: for the names.
        spans: where the weights lie in what the optimizer updates.

    Raises:
        UserError: something is not there; alike on every rank.
    """
    tensors = {span.tensor: optimizer.param_groups[span.group] for span in spans}
    for tensor, group in tensors.items():
        optimizer.state[tensor].update(first_moments(tensor, group))
    state: Mapping[Tensor, Mapping[str, Any]] = optimizer.state
    kinds = [MASTER, *moments_of(state[spans[0].tensor])]
    places = _places(folder, module, kinds)
    for span in spans:
        place = places[id(span.parameter)]
        own = state[span.tensor]
        for kind in _written(kinds, place) if span.length else ():
            _fill(span, span.tensor if kind == MASTER else own[kind], place / f"{kind}.pt")
        if STEP in own and not _is_new(place):
            own[STEP].copy_(_read(place / f"{STEP}.pt"))
    return Common(**_read(folder / COMMON))


def _places(folder: Path, module: nn.Module, kinds: Sequence[str]) -> dict[int, Path]:
    """Return each parameter's folder by the parameter's identity.

    A tied weight has a folder under one of its names.

    Raises:
        UserError: a file is missing.
    """
    places: dict[int, Path] = {}
    names: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), name)
        place = folder / PARAMETERS / name
        if place.is_dir():
            places.setdefault(id(parameter), place)
    needed = [folder / COMMON]
    for key, name in names.items():
        place = places.get(key, folder / PARAMETERS / name)
        needed += [place / f"{kind}.pt" for kind in _written(kinds, place)]
    missing = next((path for path in needed if not path.is_file()), None)
    if missing is not None:
        raise UserError(
            f"cannot load {folder}: there is no {missing.relative_to(folder)}; it is of another "
            "model or optimizer, or was converted by an earlier version: convert it again"
        )
    return places


def _written(kinds: Sequence[str], place: Path) -> list[str]:
    """Return what of a parameter is to be read."""
    return [kind for kind in kinds if kind in _OF_NEW or not _is_new(place)]


def _is_new(place: Path) -> bool:
    """Return whether a parameter was saved before the optimizer's first step."""
    return {path.stem for path in place.glob("*.pt")} <= _OF_NEW


def _fill(span: Span, tensor: Any, path: Path) -> None:
    """Copy what a span holds of a whole tensor in a file."""
    whole: Tensor = _read(path)["param"]
    if span.columns is None:
        part = whole.flatten().narrow(0, span.start, span.length)
    else:
        first, last = span.columns
        part = whole[:, first:last].flatten()
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    local.view(-1).narrow(0, span.offset, span.length).copy_(part)


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
