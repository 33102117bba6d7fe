"""Reads a checkpoint of the pre-training program, whichever engine wrote it, or a run's newest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.paths import DCP_METADATA, inside, read_json
from alphadecay.inspect.run_folder import MANIFEST, STATE
from alphadecay.inspect.sources.deepspeed import open_deepspeed
from alphadecay.inspect.sources.source import Source


def open_checkpoint(folder: Path) -> Source:
    """Return the float32 weights of a checkpoint, with its model's sizes as configuration.

    Raises:
        InspectError: it is a universal form, or cannot be read.
    """
    manifest = read_json(inside(folder, MANIFEST))
    if manifest.get("universal"):
        raise InspectError(
            f"{folder} is the universal form of a checkpoint: give the one it was made from, "
            f"{folder.with_name(folder.name.replace('universal-', 'step-'))}"
        )
    state = inside(folder, STATE)
    source = _open_state(state)
    model: Any = manifest.get("model")
    config = dict(model) if isinstance(model, Mapping) else {}
    step = manifest.get("step", "unknown")
    form = f"a checkpoint of step {step}, {source.form}"
    return replace(source, place=str(folder), form=form, config=config)


def _open_state(state: Path) -> Source:
    if not (state / DCP_METADATA).is_file():
        return open_deepspeed(state)
    from alphadecay.inspect.sources.dcp import open_dcp  # its imports take a second

    return open_dcp(state)
