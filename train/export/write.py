"""Writes what an export holds: weights, tokenizer or preprocessor, and model card."""

from __future__ import annotations

from pathlib import Path

from train.config import ARCHITECTURES
from train.export.card_sources import Exported
from train.export.hf_model_card import FILE, model_card
from train.export.hf_tokenizer import write_tokenizer
from train.export.image_files import write_preprocessor
from train.export.sentence_files import copy_tokenizer
from train.export.trained import DTYPES, Trained


def write_export(
    trained: Trained, folder: Path, dtype: str, shard_size: str, license_id: str
) -> int:
    """Write everything into a folder that is there, and return the number of parameters.

    Args:
        dtype: a key of DTYPES, of the weights.
        shard_size: largest safetensors file.
        license_id: for the model card; empty leaves it out.

    Raises:
        UserError: weights or a tokenizer that cannot be exported.
        OSError: the folder cannot be written.
    """
    model = trained.load(DTYPES[dtype])
    model.save_pretrained(folder, max_shard_size=shard_size)
    if trained.tokenizer is not None:
        write_tokenizer(trained.tokenizer, folder, trained.sequence_length)
    elif trained.model.architecture in ARCHITECTURES["image_classification"]:
        write_preprocessor(trained.run, folder)
    else:
        copy_tokenizer(trained.run, folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    built = trained.model
    exported = Exported(trained.checkpoint, built.architecture, parameters, dtype, built.quantize)
    (folder / FILE).write_text(model_card(exported, license_id), encoding="utf-8")
    return parameters
