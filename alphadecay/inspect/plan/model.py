"""Finds the shapes of the model that a plan is for: a known size, a config.json, a stored model.

Of the known sizes and most architectures they are reckoned without torch, whose import takes longer
than the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import HF_CONFIG, read_json
from alphadecay.inspect.plan.architectures import (
    ARCHITECTURES,
    OF_WHOLE_WEIGHTS,
    Shape,
    weights_of,
)
from alphadecay.inspect.plan.sizes import SIZES


class ModuleShape(NamedTuple):
    """A module without its values.

    name: of the module.
    shape: (M, N) of its matrix.
    whole: the shape of the parameter that it lies in.
    flat_range: the elements [start, stop) of the flattened parameter that hold it.
    """

    name: str
    shape: tuple[int, int]
    whole: tuple[int, ...]
    flat_range: tuple[int, int]


@dataclass(frozen=True)
class PlannedModel:
    """A model's shapes.

    Args:
        name: as it was given.
        shapes: of all parameters, tied ones once.
        modules: that AlphaDecay chooses by default; at least one.
        warnings: what a reader should know of the choice.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    modules: tuple[ModuleShape, ...]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.modules:
            raise InspectError(f"{self.name} has no linear weight to decay by module")

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(map(prod, self.shapes))


def model_of_config(name: str, config: Mapping[str, Any], where: str) -> PlannedModel:
    """Return the shapes of a configuration, by arithmetic.

    Args:
        name: what the model is called.
        config: of config.json.
        where: what the configuration is called in messages.

    Raises:
        InspectError: an architecture that is not known, or a key that is missing or no count.
    """
    weights = weights_of(config, where)
    if config["model_type"] not in OF_WHOLE_WEIGHTS:
        from alphadecay.inspect.plan.stored import model_of_shapes

        return model_of_shapes(name, weights, config)
    modules = tuple(_whole_weight(weight) for weight in weights if weight.linear)
    return PlannedModel(name, tuple(weight.shape for weight in weights), modules)


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
    config = path / HF_CONFIG if path.is_dir() else path
    if config.suffix == ".json" and config.is_file():
        values = read_json(config)
        if path.is_file() and "weight_map" not in values:
            return model_of_config(given, values, str(config))
        if str(values.get("model_type")) in ARCHITECTURES:
            return model_of_config(given, values, str(config))
    from alphadecay.inspect.plan.stored import read_stored

    try:
        return read_stored(given, path)
    except InspectError as error:
        raise InspectError(f"{error}; known sizes are {', '.join(SIZES)}") from error


def _whole_weight(weight: Shape) -> ModuleShape:
    rows, columns = weight.shape
    return ModuleShape(weight.name, (rows, columns), weight.shape, (0, rows * columns))
