"""Opens an exported folder as lm-eval's own model of transformers."""

from __future__ import annotations

from pathlib import Path

from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

from train.errors import UserError
from train.export.latent import compute_as_trained


def open_export(folder: Path, device: str, batch: int) -> LM:
    """Return the model; texts longer than what it was trained on count by their ends.

    Args:
        batch: rows of a forward pass.

    Raises:
        UserError: transformers cannot load it.
    """
    try:
        opened = HFLM(pretrained=str(folder), device=device, batch_size=batch, dtype="auto")
        compute_as_trained(opened.model)
        return opened
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"transformers cannot load {folder}: {reason}") from error
