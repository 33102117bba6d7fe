"""Tells a complete checkpoint of a run from one that was cut or changed, and finds the newest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run_folder import MANIFEST, newest_first, step_folders

FORMAT = 3
PICKLES = (".pt", ".pth", ".bin", ".pkl")  # what DeepSpeed might open, and unpickle in full


def newest_complete(folder: Path, say: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint whose files are all there; None where there is none at all.

    Args:
        folder: of the checkpoints.
        say: takes a line for each that is passed over.

    Raises:
        InspectError: there are some, and none is complete.
    """
    candidates = newest_first(step_folders(folder))
    for path in candidates:
        try:
            reason = why_files_differ(path)
        except OSError as error:
            reason = f"{error.filename or path} cannot be read: {error.strerror or error}"
        if not reason:
            return path
        say(f"passing over {path}: {reason}")
    if candidates:
        raise InspectError(f"{folder} has checkpoints and none is complete")
    return None


def why_files_differ(path: Path) -> str:
    """Return why a folder is no complete checkpoint, by the names and sizes of its files; empty
    where it is one.

    Raises:
        OSError: the file system does not give them.
    """
    if not path.is_dir():
        return "no such folder"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): int(facts["bytes"]) for name, facts in manifest["files"].items()}
        [str(facts["sha256"]) for facts in manifest["files"].values()]
        int(manifest["step"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or unreadable"
    if manifest.get("format") != FORMAT:
        return f"format {manifest.get('format')}, this version reads {FORMAT}"
    if not files:
        return f"{MANIFEST} names no files"
    for name, size in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if (path / name).stat().st_size != size:
            return f"{name} has {(path / name).stat().st_size} bytes, the manifest says {size}"
    pickles = [file for file in path.rglob("*") if file.suffix in PICKLES]
    unknown = sorted({str(file.relative_to(path)) for file in pickles} - set(files))
    return f"{unknown[0]} is not in the manifest" if unknown else ""
