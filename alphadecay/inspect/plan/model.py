"""Finds the shapes of the model that a plan is for: a known size, a config.json, a stored model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.models import Weights, find_weights
from alphadecay.inspect.plan.architectures import ARCHITECTURES, shapes_of
from alphadecay.inspect.plan.sizes import SIZES
from alphadecay.inspect.sources import BrokenTensor, Source, StoredTensor, open_source
from alphadecay.inspect.sources.huggingface import CONFIG
from alphadecay.inspect.sources.paths import read_json
from alphadecay.modules import WeightModule


@dataclass(frozen=True)
class PlannedModel:
    """A model's shapes.

    Args:
        name: as it was given.
        source: its tensors, of which the values are not read.
    """

    name: str
    source: Source

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of all parameters, tied ones once."""
        floats = (t for t in self.source.tensors.values() if t.dtype and t.dtype.is_floating_point)
        return [tensor.shape for tensor in floats if not tensor.tied_to]

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(map(prod, self.shapes))

    @cached_property
    def modules(self) -> list[WeightModule]:
        """The modules that AlphaDecay chooses by default.

        Raises:
            InspectError: there is none.
        """
        chosen = [weight.module for weight in self._weights.measured if weight.takes_part]
        if not chosen:
            raise InspectError(f"{self.name} has no linear weight to decay by module")
        return chosen

    @property
    def warnings(self) -> list[str]:
        """What a reader should know of the choice."""
        aside = [f"{name} is left out: {why}" for name, why in self._weights.set_aside.items()]
        return [*self._weights.warnings, *aside]

    @cached_property
    def _weights(self) -> Weights:
        return find_weights(self.source)


def model_of_config(name: str, config: Mapping[str, Any], where: str) -> PlannedModel:
    """Return the shapes of a configuration, by arithmetic.

    Args:
        name: what the model is called.
        config: of config.json.
        where: what the configuration is called in messages.

    Raises:
        InspectError: an architecture that is not known, or a key that is missing or no count.
    """
    tensors = {
        weight: StoredTensor(weight, shape, torch.bfloat16, _no_values)
        for weight, shape in shapes_of(config, where).items()
    }
    return PlannedModel(name, Source(name, "a configuration", tensors, config))


def read_model(given: str) -> PlannedModel:
    """Return the shapes of a model.

    Args:
        given: a name of SIZES, a config.json, or a stored model of any kind. A folder with a
            config.json of a known architecture is reckoned from that, another from the headers of
            its files.

    Raises:
        InspectError: there is none; the message says what to give.
    """
    if given in SIZES:
        return model_of_config(given, SIZES[given], given)
    path = Path(given).expanduser()
    config = path / CONFIG if path.is_dir() else path
    if config.suffix == ".json" and config.is_file():
        values = read_json(config)
        if path.is_file() and "weight_map" not in values:
            return model_of_config(given, values, str(config))
        if str(values.get("model_type")) in ARCHITECTURES:
            return model_of_config(given, values, str(config))
    try:
        return PlannedModel(given, open_source(path))
    except InspectError as error:
        raise InspectError(f"{error}; known sizes are {', '.join(SIZES)}") from error


def _no_values(elements: tuple[int, int] | None) -> Tensor:
    raise BrokenTensor("a configuration has no values")
