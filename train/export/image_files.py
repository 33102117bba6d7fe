"""What a model of images has beside its weights: the names of its classes, and what is done to an
image before it sees it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from transformers import PretrainedConfig

from train.config.run_folder import CLASSES, PREPROCESSOR
from train.errors import UserError


def name_classes(config: PretrainedConfig, run: Path) -> None:
    """Give the configuration the names that the run keeps.

    Raises:
        UserError: it keeps none, or others.
    """
    file = run / CLASSES
    try:
        names = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read: {error}; start the run once more, which writes it"
        ) from error
    if len(names) != config.num_labels:
        raise UserError(f"{file} names {len(names)} classes, and the model has {config.num_labels}")
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}


def write_preprocessor(run: Path, folder: Path) -> None:
    """Copy the run's description of what is done to an image.

    Raises:
        UserError: it keeps none.
        OSError: the folder cannot be written.
    """
    if not (run / PREPROCESSOR).is_file():
        raise UserError(f"{run / PREPROCESSOR} is not there; start the run once more to write it")
    shutil.copyfile(run / PREPROCESSOR, folder / PREPROCESSOR)
