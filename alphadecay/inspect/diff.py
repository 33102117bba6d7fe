"""What changed between two models: `alphadecay diff`."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from alphadecay.inspect.analysis.differences import Difference, compare, distances_of, match
from alphadecay.inspect.analyze import analyze
from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.models import find_weights
from alphadecay.inspect.sources import open_source

Model = str | os.PathLike[str] | nn.Module


def diff(first: Model, second: Model, **choices: Any) -> Difference:
    """Measure both models, and say what changed from the first to the second.

    Args:
        first: as `analyze` takes it, and second.
        choices: as `analyze` takes them.

    Raises:
        InspectError: a model cannot be read, or they have no weight in common.
    """
    include = choices.get("include", ())
    exclude = choices.get("exclude", ())
    before = find_weights(open_source(first), include, exclude).measured
    after = find_weights(open_source(second), include, exclude).measured
    names = match([weight.name for weight in before], [weight.name for weight in after])
    if not names:
        raise InspectError(
            f"{first} and {second} have no weight in common: the first has {before[0].name}, the "
            f"second {after[0].name}; --include chooses"
            if before and after
            else f"{first} or {second} has no weight that can be measured"
        )
    tables = (analyze(first, **choices), analyze(second, **choices))
    return compare(*tables, distances_of(before, after, names), names)
