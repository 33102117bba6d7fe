"""A checkpoint as a Hugging Face folder: `python -m train export RUN_OR_CHECKPOINT --out FOLDER`.

The folder holds safetensors, config.json, generation_config.json and the tokenizer; plain
transformers loads it. One process reads the checkpoint's files, whatever the number of ranks that
wrote them. The weights are the float32 masters, or those rounded to bfloat16.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from train.errors import UserError, as_command
from train.system.environment import prepare_environment
from train.system.files import sync


def export(
    source: Path,
    out: Path,
    dtype: str = "float32",
    shard_size: str = "5GB",
    force: bool = False,
    tokenizer: str = "",
) -> str:
    """Writes the folder, complete or not at all; what it did, in one line.

    Args:
        source: a run's folder (its newest complete checkpoint is taken) or a checkpoint.
        out: the folder to make.
        dtype: float32 or bfloat16, of the weights.
        shard_size: largest safetensors file, e.g. 5GB; above it the weights are split over several
            with an index.
        force: replace what is there.
        tokenizer: a SentencePiece .model instead of the run's own.

    Raises:
        UserError: nothing to export, or the folder exists or cannot be written.
    """
    _check_free(out, force)
    from train.export.hf_tokenizer import write_tokenizer
    from train.export.trained import DTYPES, find_trained

    trained = find_trained(source, tokenizer, lambda text: print(text, file=sys.stderr))
    temporary = out.with_name(f".tmp-{out.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        model = trained.load(DTYPES[dtype])
        model.save_pretrained(temporary, max_shard_size=shard_size)
        write_tokenizer(trained.tokenizer, temporary, trained.sequence_length)
        _commit(temporary, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    parameters = sum(p.numel() for p in model.parameters())
    return f"{out}: {parameters / 1e6:,.2f}M parameters in {dtype}, from {trained.checkpoint.path}, step {trained.checkpoint.step}"


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
    """Moves the finished folder into place; an older export stays until then."""
    for path in [*temporary.rglob("*"), temporary]:
        sync(path)
    old = out.with_name(f".old-{out.name}")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(temporary, out)
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; a user's mistake is one message, not a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m train export", description="A checkpoint as a Hugging Face folder."
    )
    parser.add_argument(
        "source", type=Path, help="a run's folder (its newest complete checkpoint) or a checkpoint"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the weights; default float32, the masters",
    )
    parser.add_argument(
        "--shard-size", default="5GB", help="largest weight file, e.g. 500MB; default 5GB"
    )
    parser.add_argument(
        "--tokenizer",
        default="",
        metavar="FILE.model",
        help="instead of the one that the run keeps",
    )
    parser.add_argument("--force", action="store_true", help="replace an export that is there")
    o = parser.parse_args(argv)
    prepare_environment()
    return as_command(
        lambda: print(export(o.source, o.out, o.dtype, o.shard_size, o.force, o.tokenizer))
    )
