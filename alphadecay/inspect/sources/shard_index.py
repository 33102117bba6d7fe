"""Reads a model in several files by its index: model.safetensors.index.json or its like of .bin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import inside, read_json
from alphadecay.inspect.sources.safetensors_file import open_safetensors
from alphadecay.inspect.sources.source import Source, StoredTensor
from alphadecay.inspect.sources.torch_file import open_torch_file


def open_weights_file(path: Path) -> Source:
    """Return what one file of weights holds, a shard or a whole model.

    Raises:
        InspectError: it cannot be read.
    """
    if not path.is_file():
        raise InspectError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    return open_torch_file(path)


def open_index(path: Path) -> Source:
    """Return what the files hold that the index names; what a missing one held is broken.

    Raises:
        InspectError: it is no index, or names a file outside its folder.
    """
    places = read_json(path).get("weight_map")
    if not isinstance(places, Mapping) or not places:
        raise InspectError(f"{path} is no index of shards: it has no weight_map")
    files: dict[str, Path] = {}
    for name in places.values():
        if not isinstance(name, str) or name not in files:
            files[name] = inside(path.parent, name)
    shards: dict[str, Source] = {}
    unread: dict[str, str] = {}
    for name, file in files.items():
        try:
            shards[name] = open_weights_file(file)
        except InspectError as error:
            unread[name] = str(error)
    tensors: dict[str, StoredTensor] = {}
    broken: dict[str, str] = {}
    for name, place in places.items():
        if place in unread:
            broken[name] = unread[place]
        elif name in shards[place].tensors:
            tensors[name] = shards[place].tensors[name]
        else:
            broken[name] = shards[place].broken.get(name, f"{place} does not hold it")
    opened = (path, *(file for name, file in files.items() if name in shards))
    return Source(str(path), "an index of shards", tensors, broken=broken, files=opened)
