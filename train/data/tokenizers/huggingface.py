"""Loads Hugging Face tokenizers, by name at a pinned revision or from a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from train.config.run_folder import TOKENIZER_JSON
from train.config.tokenizer_name import check_name
from train.data.tokenizers.ids import Ids
from train.data.tokenizers.special_pieces import out_of_reach, special_ids
from train.errors import UserError
from train.system.files import write_atomically

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONFIG_NAME = "tokenizer_config.json"


class HuggingFaceTokenizer:
    """A fast tokenizer and the facts the rest of the program needs.

    Attributes:
        path: what it was loaded from.
        size: one more than its largest id.
        eos_id: id that ends a document.
        special_ids: ids that no text may have: eos and other pieces with a meaning of their own.
        sha256: hex digest of its definition and eos.
        threads: 1 keeps its own threads off; they change the speed only.
    """

    def __init__(self, definition: str, eos_token: str, path: str) -> None:
        from tokenizers import Tokenizer

        self.path = path
        self.definition = definition
        self.eos_token = eos_token
        self.sha256 = hashlib.sha256(f"{definition}\0{eos_token}".encode()).hexdigest()
        self.threads = 1
        pieces = Tokenizer.from_str(definition).get_vocab(with_added_tokens=True)
        self.size: int = max(pieces.values()) + 1
        self.eos_id: int = pieces[eos_token]
        self.special_ids = special_ids(definition, eos_token) | {self.eos_id}
        # "</s>" in a text is text, not the end of it.
        self._encoder = Tokenizer.from_str(out_of_reach(definition, eos_token))
        self._encoder.no_truncation()
        self._encoder.no_padding()
        self._encoder.encode_special_tokens = True

    @cached_property
    def _decoder(self) -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.definition)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without eos or other tokens around it."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false" if self.threads == 1 else "true"
        return [
            encoding.ids
            for encoding in self._encoder.encode_batch(list(texts), add_special_tokens=False)
        ]

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Return what `encode` does, as arrays."""
        return [np.array(ids, dtype=np.int32) for ids in self.encode(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, as well as the tokenizer can."""
        return self._decoder.decode([int(id_) for id_ in ids], skip_special_tokens=False)

    def save(self, folder: Path) -> None:
        """Write what `load_saved` reads; AutoTokenizer reads it too."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.eos_token,
            "clean_up_tokenization_spaces": False,
        }
        write_atomically(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")
        write_atomically(folder / TOKENIZER_JSON, self.definition)


def load_saved(folder: Path) -> HuggingFaceTokenizer:
    """Load what `save` wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        return HuggingFaceTokenizer(
            (folder / TOKENIZER_JSON).read_text(encoding="utf-8"), config["eos_token"], str(folder)
        )
    except Exception as error:  # tokenizers raises bare Exception
        raise UserError(
            f"The tokenizer in {folder} is damaged ({type(error).__name__}: {error}); delete "
            f"{folder} and prepare again."
        ) from error


def load_huggingface(name: str) -> HuggingFaceTokenizer:
    """Load `hf:NAME@REVISION` or `hf:FOLDER`. Code that comes with a tokenizer is never run.

    Raises:
        UserError: not pinned, not to be had, not a fast tokenizer, or without end-of-sequence
            token.
    """
    repository, revision = check_name(name)
    try:
        from transformers import AutoTokenizer

        pinned: dict[str, Any] = {"revision": revision} if revision else {"local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(repository, trust_remote_code=False, **pinned)
    except Exception as error:  # the hub's clients raise dozens of unrelated types
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise UserError(
            f"data.tokenizer: {name} cannot be loaded ({reason}); check the name, the revision and "
            "the network."
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"data.tokenizer: {name} has no fast form (tokenizer.json); name another, or its "
            "SentencePiece .model file."
        )
    if tokenizer.eos_token is None:
        raise UserError(
            f"data.tokenizer: {name} has no end-of-sequence token to end documents with; use "
            "another tokenizer."
        )
    return HuggingFaceTokenizer(
        tokenizer.backend_tokenizer.to_str(), str(tokenizer.eos_token), name
    )
