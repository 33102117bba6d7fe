"""What a classifier of text has beside its weights: the tokenizer that its run keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

from train.config.run_folder import TOKENIZER_FILES, TOKENIZER_JSON
from train.errors import UserError


def copy_tokenizer(run: Path, folder: Path) -> None:
    """Copy the tokenizer's files as they are, for AutoTokenizer.

    Raises:
        UserError: the run keeps none.
        OSError: the folder cannot be written.
    """
    if not (run / TOKENIZER_JSON).is_file():
        raise UserError(f"{run / TOKENIZER_JSON} is not there; start the run once more to write it")
    for name in TOKENIZER_FILES:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
