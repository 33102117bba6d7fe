"""Rows as a DataFrame of pandas, which the library does not need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alphadecay.inspect.errors import InspectError


def to_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a DataFrame of the rows.

    Raises:
        InspectError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise InspectError("to_pandas() needs pandas: pip install pandas") from error
    return pandas.DataFrame(list(rows))
