"""The line that documents each key, from the docstrings of the sections."""

from __future__ import annotations

import dataclasses
import typing
from functools import cache
from typing import Any

import docstring_parser

from train.config import TrainConfig
from train.config.key_registry import expected, known_keys, range_of


@cache
def key_docs() -> dict[str, str]:
    """Return what each dotted key means, and that of each section under its name."""
    docs = _fields(TrainConfig, "")
    for name, kind in typing.get_type_hints(TrainConfig).items():
        if dataclasses.is_dataclass(kind):
            docs.update(_fields(kind, f"{name}."))
    return docs


def allowed(key: str) -> str:
    """Return which values a key takes."""
    limits = range_of(key)
    kind = expected(known_keys()[key])
    return f"{kind}, {limits.describe()}" if limits else kind


def _fields(section: Any, prefix: str) -> dict[str, str]:
    parameters = docstring_parser.parse(section.__doc__ or "").params
    return {
        prefix + parameter.arg_name: " ".join((parameter.description or "").split())
        for parameter in parameters
    }
