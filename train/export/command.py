"""A checkpoint as a Hugging Face folder: `python -m train export RUN_OR_CHECKPOINT --out FOLDER`.

The folder holds safetensors, config.json, generation_config.json, the tokenizer and a model card;
plain transformers loads it. One process reads the checkpoint's files, whatever the number of ranks
that wrote them. The weights are the float32 masters, or those rounded to bfloat16.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from train.errors import UserError, as_command
from train.system.environment import prepare_environment
from train.system.files import follow_umask, sync


@dataclass(frozen=True)
class Form:
    """How an export is written.

    Args:
        dtype: float32 or bfloat16, of the weights.
        shard_size: largest safetensors file, e.g. 5GB; above it the weights are split over several
            with an index.
        license_id: for the model card, as the hub names it; empty leaves it out.

    Raises:
        UserError: no identifier of a license.
    """

    dtype: str = "float32"
    shard_size: str = "5GB"
    license_id: str = ""

    def __post_init__(self) -> None:
        if self.license_id and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", self.license_id):
            raise UserError(
                f"--license {self.license_id!r} is no identifier of the hub's; they are lower "
                "case, such as apache-2.0, mit or other"
            )


def export(
    source: Path, out: Path, form: Form | None = None, force: bool = False, tokenizer: str = ""
) -> str:
    """Write the folder, complete or not at all, and return what was done in a line.

    Args:
        source: a run's folder (its newest complete checkpoint is taken) or a checkpoint.
        out: the folder to make.
        form: how; None takes the defaults.
        force: replace what is there.
        tokenizer: a SentencePiece .model instead of the run's own.

    Raises:
        UserError: nothing to export, or the folder exists or cannot be written.
    """
    form = form or Form()
    _check_free(out, force)
    from train.export.trained import find_trained
    from train.export.write import write_export

    trained = find_trained(source, tokenizer, lambda text: print(text, file=sys.stderr))
    temporary = out.with_name(f".tmp-{out.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        parameters = write_export(trained, temporary, form.dtype, form.shard_size, form.license_id)
        follow_umask(temporary)
        _commit(temporary, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    checkpoint = trained.checkpoint
    return (
        f"{out}: {parameters / 1e6:,.2f}M parameters in {form.dtype}, from {checkpoint.path}, "
        f"step {checkpoint.step}"
    )


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder that does not exist yet")
    if out.exists() and not force:
        raise UserError(f"{out} exists; name another folder, or replace it with --force")
    if force and out.exists() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise UserError(
            f"{out} is no export (it has no config.json): --force replaces exports only"
        )


def _commit(temporary: Path, out: Path) -> None:
    """Move the finished folder into place; an older export stays until then."""
    for path in [*temporary.rglob("*"), temporary]:
        sync(path)
    old = out.with_name(f".old-{out.name}")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(temporary, out)
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train export",
        description="Write a checkpoint as a Hugging Face folder, with a model card.",
    )
    add = parser.add_argument
    add("source", type=Path, help="a run's folder (its newest complete checkpoint) or a checkpoint")
    add("--out", type=Path, required=True, help="folder to make")
    add(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the weights; default float32, the masters",
    )
    add("--shard-size", default="5GB", help="largest weight file, e.g. 500MB; default 5GB")
    add(
        "--license",
        default="",
        metavar="ID",
        help="for the model card, as the hub names it, e.g. apache-2.0; default: left out",
    )
    add(
        "--tokenizer",
        default="",
        metavar="FILE.model",
        help="instead of the one that the run keeps",
    )
    add("--force", action="store_true", help="replace an export that is there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; a user's mistake is one message, not a
    traceback.
    """
    o = make_parser().parse_args(argv)
    prepare_environment()

    def work() -> None:
        form = Form(o.dtype, o.shard_size, o.license)
        print(export(o.source, o.out, form, o.force, o.tokenizer))

    return as_command(work)
