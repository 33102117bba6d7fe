"""Remembers what a run was begun from, so that the same command goes on instead of beginning again.

`--resume never` and `--resume PATH` say how to begin. A job that is requeued, or started again by
its launcher, runs the same command; begun.json in its folder says that this was done, and every
checkpoint since bears its name.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from train.checkpoint.manifest import MANIFEST
from train.checkpoint.names import step_folders
from train.config import TrainConfig
from train.config.deciding import changes, deciding
from train.config.run_folder import BEGUN, CHECKPOINTS
from train.errors import UserError
from train.system.files import write_atomically
from train.system.patience import patiently


@dataclass(frozen=True)
class Beginning:
    """What a run was begun from.

    Args:
        resume: never, or the absolute path of a checkpoint.
        name: of this beginning; the checkpoints written since bear it in their manifests.
        settings: those that decide what is trained.
    """

    resume: str
    name: str
    settings: dict[str, Any]

    def is_from(self, path: Path) -> bool:
        """Return whether a checkpoint is the one that the run was begun from."""
        return self.resume == str(path.resolve())


def read_beginning(folder: Path) -> Beginning | None:
    """Return what the run in its folder was begun from; None where it was not told how to begin.

    Raises:
        OSError: it cannot be read at the moment; that must not pass for none.
    """
    try:
        values = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
        return Beginning(str(values["resume"]), str(values["name"]), dict(values["settings"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def wanted(config: TrainConfig) -> Beginning:
    """Return the beginning that a configuration with resume never or a path asks for."""
    resume = config.resume
    if resume != "never":
        resume = str(Path(resume).expanduser().resolve())
    return Beginning(resume, uuid.uuid4().hex, deciding(config))


@dataclass(frozen=True)
class Resume:
    """What a start goes on from, as `find` takes it.

    Args:
        resume: auto, never, or the path of a checkpoint.
        since: only checkpoints of the beginning of this name count for auto; empty takes all.
        beginning: what the run was begun from; None where it was not told.
    """

    resume: str
    since: str = ""
    beginning: Beginning | None = None


def how_to_resume(config: TrainConfig, say: Callable[[str], None]) -> Resume:
    """Return what to go on from.

    The same command as the one that began the run goes on from the newest checkpoint since; another
    one begins anew. Writes nothing: `write_beginning` does, once the run is known to start.

    Raises:
        UserError: it cannot be told, for the file system gives nothing.
    """
    try:
        earlier = patiently(lambda: read_beginning(config.folder), say)
        folders = patiently(lambda: step_folders(config.folder / CHECKPOINTS), say)
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename or config.folder}: {error.strerror}; start again later"
        ) from error
    if config.resume == "auto":
        return Resume("auto", beginning=earlier)
    new = wanted(config)
    if earlier is None or earlier.resume != new.resume:
        return Resume(config.resume, beginning=new)
    begun = f"this run was begun with --resume {config.resume}"
    different = changes(earlier.settings, new.settings)
    if different:
        say(
            f"{begun} and other settings ({'; '.join(different)}): beginning again from there; "
            "--resume auto would go on from the newest checkpoint"
        )
        return Resume(config.resume, beginning=new)
    if not any(may_be_begun_by(path, earlier.name) for path in folders):
        return Resume(config.resume, beginning=earlier)
    say(f"{begun} and goes on; to begin again, remove {config.folder / BEGUN}")
    return Resume("auto", earlier.name, earlier)


def write_beginning(folder: Path, beginning: Beginning | None) -> None:
    """Note what the run is begun from."""
    if beginning is not None and read_beginning(folder) != beginning:
        write_atomically(folder / BEGUN, json.dumps(asdict(beginning), indent=1) + "\n")


def begun_by(path: Path) -> str:
    """Return the name of the beginning that a checkpoint's manifest bears; empty without one.

    Raises:
        OSError: it cannot be read at the moment.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return str(manifest.get("begun") or "")
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return ""


def may_be_begun_by(path: Path, name: str) -> bool:
    """Return whether a checkpoint bears a name, or cannot be read: it must not count as none."""
    try:
        return begun_by(path) == name
    except OSError:
        return True
