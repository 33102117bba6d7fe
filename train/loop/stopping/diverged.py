"""Makes a run that diverged end for good: started again as it was, it would diverge again.

A launcher that starts dead ranks again, or a job that is requeued, runs the same command. It finds
diverged.json, which says with which settings, and is refused before anything is built; other
settings, or another --resume, go on.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from train.config import TrainConfig
from train.config.deciding import all_settings
from train.config.run_folder import DIVERGED
from train.errors import UserError
from train.system.files import write_atomically


class Diverged(UserError):
    """The run cannot go on as it is; the message names the checkpoint to go back to."""


def way_back(saved: Path | None) -> str:
    """Return what to do after a divergence.

    Args:
        saved: the newest checkpoint; None before the first.
    """
    if saved is None or not saved.is_dir():
        return (
            "There is no checkpoint to go back to: start again with a smaller --optim.lr and "
            "--resume never"
        )
    return (
        f"The newest checkpoint is {saved}: go on from it with a smaller --optim.lr, or as it was "
        f"with --resume {saved}, or from an older one; the same command is refused"
    )


def note_divergence(config: TrainConfig, message: str) -> None:
    """Write down that this command diverged. For rank 0."""
    facts = {"message": message, "settings": all_settings(config)}
    with suppress(OSError):  # the message is what counts
        write_atomically(config.folder / DIVERGED, json.dumps(facts, indent=1) + "\n")


def refuse_if_diverged(config: TrainConfig) -> None:
    """Refuse the command that diverged before. For rank 0.

    Raises:
        UserError: it did; the message is the one of then.
    """
    try:
        facts = json.loads((config.folder / DIVERGED).read_text(encoding="utf-8"))
        same = facts["settings"] == all_settings(config)
        message = str(facts["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if same:
        raise UserError(f"this run has diverged with the same settings. {message}")


def forget_divergence(folder: Path) -> None:
    """Remove the note: the run goes on with another command. For rank 0."""
    (folder / DIVERGED).unlink(missing_ok=True)
