"""Reads the name of a tokenizer: a SentencePiece file, or a Hugging Face one, pinned."""

from __future__ import annotations

from pathlib import Path

from train.errors import UserError

PREFIX = "hf:"
MOVING = ("main", "master")  # branches: what they name does not stay the same
_HOW = "write hf:NAME@REVISION with a commit or tag of its repository, or hf:FOLDER"


def check_name(name: str) -> tuple[str, str | None]:
    """Return name and revision of `hf:NAME@REVISION`, or folder and None of `hf:FOLDER`.

    Reads nothing but whether the folder is there.

    Raises:
        UserError: no revision, a revision that moves, or no name.
    """
    text = name.removeprefix(PREFIX)
    if text and Path(text).expanduser().is_dir():
        return str(Path(text).expanduser()), None
    fault = _fault(text)
    if fault:
        raise UserError(f"data.tokenizer is {name!r}{fault}")
    repository, _, revision = text.partition("@")
    return repository, revision


def fault_of(name: str) -> str:
    """Return what is wrong with `hf:...`, to follow "data.tokenizer is NAME"; else empty."""
    text = name.removeprefix(PREFIX)
    return "" if text and Path(text).expanduser().is_dir() else _fault(text)


def suggest(name: str) -> str:
    """Return how a name that is no file is written if it is one on the hub; else empty."""
    if _fault(f"{name}@REVISION") or Path(name).suffix == ".model":
        return ""
    repository, _, revision = name.partition("@")
    return f"{PREFIX}{repository}@{revision or 'REVISION'}"


def _fault(text: str) -> str:
    repository, _, revision = text.partition("@")
    if not repository or repository.startswith((".", "/", "~")) or repository.count("/") > 1:
        return f", which is neither a folder nor a name on the hub; {_HOW}"
    if not revision:
        return f": it names no revision, so it would not stay the same; {_HOW}"
    if revision in MOVING:
        return f": it names the branch {revision}, which moves; {_HOW}"
    return ""
