"""Checks the name of a Hugging Face tokenizer: pinned to a revision, or a folder."""

from __future__ import annotations

from pathlib import Path

from train.errors import UserError

PREFIX = "hf:"
_HOW = "write hf:NAME@REVISION with a commit or tag of its repository, or hf:FOLDER"


def check_name(name: str) -> tuple[str, str | None]:
    """Name and revision of `hf:NAME@REVISION`; folder and None of `hf:FOLDER`.

    Reads nothing but whether the folder is there.

    Raises:
        UserError: no revision, a revision that moves, or no name.
    """
    text = name.removeprefix(PREFIX)
    if text and Path(text).expanduser().is_dir():
        return str(Path(text).expanduser()), None
    repository, _, revision = text.partition("@")
    if not repository or repository.startswith((".", "/", "~")) or repository.count("/") > 1:
        raise UserError(
            f"data.tokenizer is {name!r}, which is neither a folder nor a name on the hub; {_HOW}"
        )
    if revision in ("", "main", "master"):
        found = (
            f"names the branch {revision}, which moves"
            if revision
            else "names no revision, so it would not stay the same"
        )
        raise UserError(f"data.tokenizer is {name!r}: it {found}; {_HOW}")
    return repository, revision
