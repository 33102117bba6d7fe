"""Decides which kind of tokenizer a name or a folder stands for, and loads it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from train.config.run_folder import TOKENIZER_JSON, TOKENIZER_MODEL
from train.config.tokenizer_name import PREFIX
from train.data.tokenizers.huggingface import HuggingFaceTokenizer, load_huggingface, load_saved
from train.data.tokenizers.sentencepiece import SentencePieceTokenizer, load_sentencepiece
from train.errors import UserError

AnyTokenizer: TypeAlias = SentencePieceTokenizer | HuggingFaceTokenizer


def load_tokenizer(name: str | Path) -> AnyTokenizer:
    """Load what data.tokenizer names: a .model file, or hf:NAME@REVISION or hf:FOLDER.

    Raises:
        UserError: it is missing, is no tokenizer, has no end-of-sequence token, or is not pinned to
            a revision.
    """
    if str(name).startswith(PREFIX):
        return load_huggingface(str(name))
    return load_sentencepiece(name)


def load_prepared(folder: str | Path) -> AnyTokenizer:
    """Load the tokenizer of a prepared folder, or of a run's.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if (Path(folder) / TOKENIZER_JSON).is_file():
        return load_saved(Path(folder))
    return load_sentencepiece(Path(folder) / TOKENIZER_MODEL)


def check_vocab(tokenizer: AnyTokenizer, model_vocab_size: int) -> None:
    """Check that every piece has an embedding; spare embeddings are fine.

    Raises:
        UserError: the tokenizer has more pieces than the model has embeddings.
    """
    if tokenizer.size > model_vocab_size:
        raise UserError(
            f"The tokenizer {tokenizer.path} has {tokenizer.size} pieces but model.vocab_size is "
            f"{model_vocab_size}; set model.vocab_size to at least {tokenizer.size} or choose "
            "another data.tokenizer."
        )
