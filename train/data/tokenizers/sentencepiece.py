"""Loads SentencePiece models, and trains them on a sample of the training documents."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import sentencepiece

from train.config.run_folder import TOKENIZER_JSON, TOKENIZER_MODEL
from train.config.tokenizer_name import suggest
from train.data.tokenizers.ids import Ids
from train.errors import UserError
from train.system.files import write_atomically

SAMPLE_CHARACTERS = 4_000_000  # what the trainer sees
# Of a larger corpus only the beginning is sampled: it is not read twice.
SAMPLE_READ_CHARACTERS = 1_000_000_000
EXCERPT_CHARACTERS = 20_000  # of one document, so that a few huge files do not make the vocabulary
LINE_CHARACTERS = 4_000  # of one training sentence
TRAINING: dict[str, Any] = {
    # Byte-pair training takes about a second on the sample, the unigram model ten times as long,
    # for the same length of text.
    "model_type": "bpe",
    # Code must come back exactly as it went in: nothing normalised, nothing added, nothing
    # squeezed.
    "normalization_rule_name": "identity",
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "byte_fallback": True,
    "user_defined_symbols": ["\n"],
    "allow_whitespace_only_pieces": True,  # indentation becomes one piece
    "character_coverage": 0.9995,
    "unk_id": 0,
    "eos_id": 1,
    "bos_id": -1,
    "pad_id": -1,
    # In bytes; longer sentences would be dropped without a word.
    "max_sentence_length": 4 * LINE_CHARACTERS + 4,
    "num_threads": 1,  # the same model whatever the machine
    "minloglevel": 2,
}


class SentencePieceTokenizer:
    """A SentencePiece model and the facts the rest of the program needs.

    Attributes:
        size: number of pieces.
        eos_id: id that ends a document.
        sha256: hex digest of the model file.
        model_bytes: the file itself.
        threads: of `encode`; they change the speed only.
    """

    def __init__(self, model_bytes: bytes, path: Path) -> None:
        self.path = path
        self.model_bytes = model_bytes
        self.threads = 1
        self.sha256 = hashlib.sha256(model_bytes).hexdigest()
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model_bytes)
        except RuntimeError as error:
            raise UserError(
                f"data.tokenizer: {path} is not a SentencePiece model; name a .model file, or "
                "leave it empty."
            ) from error
        self.size: int = self._processor.vocab_size()
        self.eos_id: int = self._processor.eos_id()
        if self.eos_id < 0:
            raise UserError(
                f"data.tokenizer: {path} has no end-of-sentence piece to end documents with; use "
                "another model."
            )

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that no text may have: eos and the other control pieces."""
        pieces = range(self.size)
        return frozenset(id_ for id_ in pieces if self._processor.is_control(id_)) | {self.eos_id}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without eos."""
        return self._processor.encode(list(texts), out_type=int, num_threads=self.threads)

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Return what `encode` does, as arrays: without a Python object for each token."""
        arrays: list[Ids] = self._processor.encode(
            list(texts), out_type="numpy", num_threads=self.threads
        )
        return arrays

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids.

        Exact for models of `train_tokenizer`, but for U+2581, which SentencePiece itself uses for a
        space.
        """
        return self._processor.decode([int(id_) for id_ in ids])

    def save(self, folder: Path) -> None:
        """Write what load_prepared reads."""
        # A file left by a Hugging Face tokenizer would be taken for this one.
        (folder / TOKENIZER_JSON).unlink(missing_ok=True)
        write_atomically(folder / TOKENIZER_MODEL, self.model_bytes)


def load_sentencepiece(path: str | Path) -> SentencePieceTokenizer:
    """Load a .model file.

    Raises:
        UserError: it is missing, empty or not a SentencePiece model with an eos piece.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(
            f"data.tokenizer: {path} is a folder; name a .model file in it, or write hf:{path} for "
            "a Hugging Face tokenizer."
        )
    if not path.is_file():
        on_the_hub = suggest(str(path))
        hub = f", write {on_the_hub} if you mean the one on the hub" if on_the_hub else ""
        raise UserError(
            f"data.tokenizer: {path} does not exist; correct the path{hub}, or leave it empty to "
            "train one."
        )
    model_bytes = path.read_bytes()
    if not model_bytes:
        raise UserError(
            f"data.tokenizer: {path} is empty (0 bytes); get it again, or leave data.tokenizer "
            "empty to train one."
        )
    return SentencePieceTokenizer(model_bytes, path)


def train_tokenizer(
    documents: Iterable[str], vocab_size: int, path: str | Path
) -> SentencePieceTokenizer:
    """Train a model on a sample of the documents, write it to path and load it.

    Same documents, same model.

    Args:
        documents: training documents, read once; only a bounded, evenly spread sample is kept.
        vocab_size: number of pieces, bytes included; a small corpus may fill fewer.
        path: file to write.

    Raises:
        UserError: no documents, or a vocab_size that SentencePiece cannot make from them.
    """
    return train_on_sample(sample_documents(documents), vocab_size, path)


def train_on_sample(sample: list[str], vocab_size: int, path: str | Path) -> SentencePieceTokenizer:
    """Train as `train_tokenizer` does, on a sample that was made already."""
    if not sample:
        raise UserError(
            "There are no training documents to train a tokenizer on; check data.source and "
            "data.files."
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(sample),
            model_writer=model,
            vocab_size=vocab_size,
            **TRAINING,
        )
    except RuntimeError as error:
        reason = str(error).strip().rsplit("] ", 1)[-1]
        raise UserError(
            f"SentencePiece cannot train {vocab_size} pieces on {sum(map(len, sample))} characters "
            f"of this corpus: {reason} Change model.vocab_size, give more text, or name a trained "
            "model in data.tokenizer."
        ) from error
    path = Path(path)
    path.write_bytes(model.getvalue())
    return SentencePieceTokenizer(model.getvalue(), path)


def sample_documents(documents: Iterable[str], budget: int = SAMPLE_CHARACTERS) -> list[str]:
    """Return excerpts of every n-th document, spread evenly.

    They have about `budget` characters in all at most; memory stays under twice that.
    """
    kept: list[str] = []
    size = 0
    read = 0
    stride = 1
    for index, text in enumerate(documents):
        read += len(text)
        if index % stride == 0:
            kept.append(text[:EXCERPT_CHARACTERS])
            size += len(kept[-1])
            # Whenever the sample overflows, every other excerpt goes: it stays even without knowing
            # the corpus' length.
            while size > 2 * budget and len(kept) > 1:
                kept = kept[::2]
                stride = stride * 2
                size = sum(map(len, kept))
        if read >= SAMPLE_READ_CHARACTERS:
            break
    # Between one and two budgets remain: skip evenly rather than cut the tail off.
    if size > budget:
        picked = int(len(kept) * budget / size) or 1
        kept = [kept[position * len(kept) // picked] for position in range(picked)]
    return kept


def _sentences(sample: list[str]) -> Iterator[str]:
    # A newline is a piece of its own, so lines can be learnt from one by one; the empty ones teach
    # nothing.
    for text in sample:
        for line in text.split("\n"):
            characters = iter(line)
            while part := "".join(islice(characters, LINE_CHARACTERS)):
                yield part
