"""Reads a folder as Hugging Face's libraries save a model: config.json and weights beside it.

The configuration is read as plain JSON: no class of it and no code of the folder is loaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import HF_CONFIG, inside, read_json
from alphadecay.inspect.sources.shard_index import open_index, open_weights_file
from alphadecay.inspect.sources.source import Source

# The first that is there is read, in the order in which from_pretrained looks for them: where a
# folder was saved to twice, it is what it would load.
_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)


def weights_of(folder: Path) -> Path | None:
    """Return the file or index that holds a folder's weights; None where there is none."""
    named = [folder / name for name in _NAMES if (folder / name).is_file()]
    others = sorted(folder.glob("*.safetensors.index.json")) or sorted(folder.glob("*.safetensors"))
    return named[0] if named else others[0] if len(others) == 1 else None


def open_folder(folder: Path, weights: Path) -> Source:
    """Return what the weights of a folder are, with its configuration.

    Raises:
        InspectError: they cannot be read, or lie outside of it.
    """
    path = inside(folder, weights.name)
    source = open_index(path) if path.name.endswith(".index.json") else open_weights_file(path)
    return replace(
        source, place=str(folder), form=f"a folder of {weights.name}", config=config_of(folder)
    )


def config_of(folder: Path) -> dict[str, Any]:
    """Return a folder's config.json; nothing where there is none.

    Raises:
        InspectError: it is no JSON, or lies outside of the folder.
    """
    if not (folder / HF_CONFIG).is_file():
        return {}
    return read_json(inside(folder, HF_CONFIG))


def open_beside_config(path: Path) -> Source:
    """Return what a file or an index holds, with the configuration that lies beside it.

    Raises:
        InspectError: it cannot be read.
    """
    source = open_index(path) if path.name.endswith(".json") else open_weights_file(path)
    try:
        return replace(source, config=config_of(path.parent))
    except InspectError:
        return source  # it is another's, for all that is known
