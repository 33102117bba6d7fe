"""Finds the shapes of the model that a plan is for: a known size, a config.json or a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.plan.architectures import weights_of
from alphadecay.inspect.plan.sizes import SIZES
from alphadecay.inspect.plan.weights import Weight, skeleton
from alphadecay.modules import WeightModule, find_modules

CONFIG = "config.json"
_LARGEST = 16 << 20  # bytes of a config.json; a real one has some thousand


@dataclass(frozen=True)
class PlannedModel:
    """A model's shapes.

    Args:
        name: as it was given.
        weights: tied ones once.
        config: of config.json.
    """

    name: str
    weights: Sequence[Weight]
    config: Mapping[str, Any]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of all weights."""
        return [weight.shape for weight in self.weights]

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(map(prod, self.shapes))

    @cached_property
    def modules(self) -> list[WeightModule]:
        """The modules that AlphaDecay chooses by default.

        Raises:
            InspectError: it would choose none, or refuse the model.
        """
        try:
            return find_modules(skeleton(self.weights, self.config))
        except ValueError as error:
            raise InspectError(f"{self.name}: {error}") from error


def read_model(given: str) -> PlannedModel:
    """Return the shapes of a model.

    Args:
        given: a name of SIZES, a config.json, or a folder that has one.

    Raises:
        InspectError: there is none, or one that is not known; the message says what to give.
    """
    if given in SIZES:
        return PlannedModel(given, weights_of(SIZES[given], given), SIZES[given])
    path = Path(given)
    path = path / CONFIG if path.is_dir() else path
    config = _read(path, given)
    return PlannedModel(given, weights_of(config, str(path)), config)


def _read(path: Path, given: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InspectError(f"{path}: {path.stat().st_size:,} bytes are no {CONFIG}")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InspectError(
            f"{given} is no {CONFIG}, no folder that has one, and no known size; those are "
            f"{', '.join(SIZES)}"
        ) from error
    except (OSError, ValueError) as error:
        raise InspectError(f"{path}: no JSON that can be read ({error})") from error
    if not isinstance(config, dict):
        raise InspectError(f"{path}: holds no JSON object; name a model's {CONFIG}")
    return config
