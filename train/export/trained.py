"""Opens the trained model that a run left: a run's folder or one checkpoint -> model, tokenizer,
and where they came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from train import checkpoint
from train.checkpoint.stored_state import read_masters
from train.config import ARCHITECTURES, ModelConfig
from train.config.run_folder import CHECKPOINTS, TOKENIZER_JSON, TOKENIZER_MODEL
from train.data.tokenizers.load import AnyTokenizer, load_prepared, load_tokenizer
from train.errors import UserError
from train.export.image_files import name_classes
from train.export.latent import compute_as_trained, mark_latent
from train.models import spec_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Trained:
    """A trained model that has been found and not been loaded.

    Args:
        checkpoint: a complete one, hashes checked.
        tokenizer: the run's; None where the model writes no text.
        model: what was built.
        sequence_length: positions of a row in training.
    """

    checkpoint: checkpoint.Checkpoint
    tokenizer: AnyTokenizer | None
    model: ModelConfig
    sequence_length: int

    def config(self) -> PretrainedConfig:
        """Return transformers' description, with the special tokens of the tokenizer, or the names
        of the classes.

        The defaults of transformers are another tokenizer's.
        """
        config: PretrainedConfig = spec_of(self.model).config(self.model, self.sequence_length)
        if self.tokenizer is None:
            if self.model.num_labels > 1:
                name_classes(config, self.run)
            return config
        config.use_cache = True
        config.eos_token_id = self.tokenizer.eos_id
        config.bos_token_id = None
        config.pad_token_id = None
        mark_latent(config, self.model.quantize)
        return config

    @property
    def run(self) -> Path:
        """The folder of the run that it is of."""
        return self.checkpoint.path.parent.parent

    @property
    def writes_text(self) -> bool:
        """Whether it is a language model."""
        return self.model.architecture in ARCHITECTURES["language_modelling"]

    def load(self, dtype: torch.dtype) -> PreTrainedModel:
        """Return the model with the checkpoint's float32 weights, rounded to `dtype`.

        It is on the CPU, in evaluation mode.
        """
        config = self.config()
        weights = read_masters(self.checkpoint.path / checkpoint.STATE)
        with torch.device("meta"):
            shapes: Any = spec_of(self.model).bare(config)
        named = shapes.state_dict(keep_vars=True)
        weights = _under_every_name(weights, named)
        wanted = {name: weight.shape for name, weight in named.items()}
        stored = {name: weight.shape for name, weight in weights.items() if name in wanted}
        odd = sorted(name for name in wanted if stored.get(name) != wanted[name])
        if odd:
            raise UserError(
                f"{self.checkpoint.path}: {odd[0]} is missing or not of the shape its manifest "
                "describes"
            )
        model: PreTrainedModel = type(shapes).from_pretrained(
            None, config=config, state_dict={name: weights[name] for name in wanted}, dtype=dtype
        )
        compute_as_trained(model)
        return model.eval()


def _under_every_name(
    weights: Mapping[str, Tensor], named: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Add the names of tied weights that an engine stored once.

    Args:
        weights: as they were stored.
        named: the model's own, in which tied weights are one tensor.
    """
    stored = {id(named[name]): weights[name] for name in weights if name in named}
    ties = {name: stored[id(one)] for name, one in named.items() if id(one) in stored}
    return ties | dict(weights)


def find_trained(path: Path, tokenizer: str, say: Callable[[str], None]) -> Trained:
    """Open a run's newest complete checkpoint, or the checkpoint at `path`.

    Args:
        tokenizer: a SentencePiece .model; empty takes the one that the run keeps in its folder.
        say: takes a line for each checkpoint that is passed over.

    Raises:
        UserError: no complete checkpoint there, or no tokenizer.
    """
    newest = _find(path, say)
    manifest = newest.manifest
    known = {field.name for field in fields(ModelConfig)}
    saved = {key: value for key, value in manifest["model"].items() if value is not None}
    model = ModelConfig(**{key: value for key, value in saved.items() if key in known})
    length = int(manifest["sequence_length"])
    if model.architecture not in ARCHITECTURES["language_modelling"]:
        return Trained(newest, None, model, length)
    run = newest.path.parent.parent
    kept = any((run / name).is_file() for name in (TOKENIZER_MODEL, TOKENIZER_JSON))
    if not tokenizer and not kept:
        raise UserError(
            f"{run / TOKENIZER_MODEL} does not exist; name the tokenizer of the run with "
            "--tokenizer FILE.model"
        )
    opened = load_tokenizer(tokenizer) if tokenizer else load_prepared(run)
    return Trained(newest, opened, model, length)


def is_checkpoint(path: Path) -> bool:
    """Tell whether this is the folder of one checkpoint, complete or not."""
    return (path / checkpoint.MANIFEST).is_file() or (path / checkpoint.STATE).is_dir()


def _find(path: Path, say: Callable[[str], None]) -> checkpoint.Checkpoint:
    if not path.is_dir():
        raise UserError(
            f"{path} is no folder; name a run, such as runs/quickstart, or one of its checkpoints"
        )
    if is_checkpoint(path):
        opened = checkpoint.find(str(path), path.parent, say)
    else:
        opened = checkpoint.find("auto", path / CHECKPOINTS, say)
    if opened is None:
        raise UserError(
            f"{path} has no checkpoints/ and is no checkpoint; name a run, such as "
            "runs/quickstart, or one of its checkpoints"
        )
    return opened
