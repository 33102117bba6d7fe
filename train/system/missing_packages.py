"""What is said where a package of the program is not installed: the command that installs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType

from train.errors import UserError
from train.system.provenance import ROOT

# How it is imported -> the extra of pyproject.toml that brings it; `train` brings the library's own
# needs, too.
EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "PIL": "train",
        "numpy": "train",
        "torch": "train",
        "datasets": "train",
        "deepspeed": "train",
        "docstring_parser": "train",
        "google": "train",
        "google.protobuf": "train",
        "jinja2": "train",
        "jsonargparse": "train",
        "matplotlib": "train",
        "ninja": "train",
        "plotly": "train",
        "psutil": "train",
        "scipy": "train",
        "rich": "train",
        "safetensors": "train",
        "sentencepiece": "train",
        "shtab": "train",
        "transformers": "train",
        "yaml": "train",
        "liger_kernel": "liger",
        "lm_eval": "zeroshot",
        "sklearn": "glue",
        "tensorboard": "tensorboard",
        "wandb": "wandb",
    }
)


def explained(error: ModuleNotFoundError) -> Exception:
    """Return a UserError with the way out where the package is one of ours, else the error."""
    name = error.name or ""
    if name not in EXTRAS:
        return error
    return UserError(
        f"the package {name} is not installed for {sys.executable}; run: {sys.executable} -m pip "
        f"install -e '{ROOT}[{EXTRAS[name]}]'"
    )
