"""Which files of a model's folder may be opened, what some are called, and small files of JSON."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from alphadecay.inspect.errors import InspectError

HF_CONFIG = "config.json"  # of a Hugging Face folder
DCP_METADATA = ".metadata"  # the table of contents of torch.distributed.checkpoint
MOST_JSON = 200 << 20  # bytes: the index of a model of a million tensors has half of it


def inside(folder: Path, name: Any) -> Path:
    """Return the path of a file that something in the folder names.

    A link may lead anywhere inside the folder; in Hugging Face's cache, inside the model's.

    Raises:
        InspectError: the name is none, or leads out of the folder.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise InspectError(f"{folder} names {name!r}, which is no file's name")
    path = folder / name
    given = PurePosixPath(name)
    outside = given.is_absolute() or ".." in given.parts
    if outside or not path.resolve().is_relative_to(_root(folder)):
        raise InspectError(
            f"{folder} names {name!r}, which is outside of it: nothing outside a model's folder is "
            "read; copy the file into it if it is to be trusted"
        )
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InspectError(f"{path} is no file of bytes, and is not opened")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a file of JSON holds.

    Raises:
        InspectError: it holds none, or is too large to be one.
    """
    if not path.is_file():
        raise InspectError(f"{path}: no such file")
    try:
        if path.stat().st_size > MOST_JSON:
            raise InspectError(f"{path} has {path.stat().st_size:,} bytes, too many for its kind")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InspectError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InspectError(f"{path} holds no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InspectError(f"{path} holds a {type(value).__name__}, need a JSON object")
    return value


def _root(folder: Path) -> Path:
    real = folder.resolve()
    in_cache = real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--")
    return real.parent.parent if in_cache else real
