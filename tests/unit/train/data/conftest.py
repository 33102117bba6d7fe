"""Small corpora of known text, and the shared real ones where they are at hand."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from train.config import DataConfig
from train.data.loading.memmap import DTYPES, ENDS_DTYPE, FORMAT_VERSION, SPLITS, Meta, dtype_name
from train.data.preparing.encode import Encoded, Piece
from train.data.preparing.work_folder import WorkFolder
from train.data.tokenizers.sentencepiece import SentencePieceTokenizer, train_tokenizer

SHARED = Path(__file__).parents[5] / "shared"
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "looked",
    "at",
    "every",
    "bird",
    "its",
    "tree",
    "while",
    "rain",
    "fell",
    "hills",
    "town",
]


def make_sentences(count: int, seed: int = 0) -> list[str]:
    """Documents of 40 words, no two alike."""
    chance = random.Random(seed)
    return [
        f"Document {seed}.{number}\n" + " ".join(chance.choices(WORDS, k=40))
        for number in range(count)
    ]


def piece_of(documents: Sequence[list[int]], dtype: str = "uint16") -> Piece:
    """Documents, each with eos 1, as a worker returns them."""
    tokens = np.array(
        [id_ for document in documents for id_ in (*document, 1)], dtype=DTYPES[dtype]
    )
    return Piece(
        tokens.tobytes(),
        np.array([len(document) + 1 for document in documents], dtype=ENDS_DTYPE).tobytes(),
    )


@pytest.fixture
def sentences() -> Callable[..., list[str]]:
    """sentences(count, seed=0) is that many documents."""
    return make_sentences


@pytest.fixture
def documents() -> list[str]:
    return make_sentences(200)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """write_rows(name, texts) writes C4-form rows, gzipped if the name says so; bytes among the
    texts go in as raw lines.
    """

    def write(name: str, texts: Sequence[str | bytes]) -> Path:
        lines = [
            text if isinstance(text, bytes) else json.dumps({"text": text, "url": "x"}).encode()
            for text in texts
        ]
        content = b"".join(line + b"\n" for line in lines)
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return train_tokenizer(
        make_sentences(100), 320, tmp_path_factory.mktemp("tokenizer") / "small.model"
    )


@pytest.fixture
def settings(tmp_path: Path, tokenizer: SentencePieceTokenizer) -> Callable[..., DataConfig]:
    """settings(files, **changes) is a data section on those files with the small tokenizer and rows
    of 16 tokens.
    """

    def make(*files: Path, **changes: object) -> DataConfig:
        values: dict[str, object] = {
            "source": "files",
            "files": tuple(map(str, files)),
            "tokenizer": str(tokenizer.path),
            "directory": str(tmp_path / "prepared"),
            "sequence_length": 16,
            "validation_fraction": 0.1,
            **changes,
        }
        return DataConfig(**values)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def write_folder() -> Callable[..., Path]:
    """write_folder(path, train, validation) is a prepared folder of those documents, lists of ids;
    eos is 1.
    """

    def write(
        path: Path,
        train: Sequence[list[int]],
        validation: Sequence[list[int]],
        vocab_size: int = 65_000,
    ) -> Path:
        dtype = dtype_name(vocab_size)
        with WorkFolder(path, print) as work:
            pieces = {
                split: piece_of(documents, dtype)
                for split, documents in zip(SPLITS, (train, validation), strict=True)
                if documents
            }
            work.append(Encoded(pieces=pieces))
            counts = work.state.counts
            meta = Meta(
                FORMAT_VERSION,
                dtype,
                vocab_size,
                1,
                "ab",
                "test",
                "cd",
                train=counts["train"],
                validation=counts["validation"],
            )
            return work.commit(meta)

    return write


@pytest.fixture
def shared() -> Path:
    if (
        not (SHARED / "tokenizers/t5/spiece.model").is_file()
        or not (SHARED / "corpora/c4").is_dir()
    ):
        pytest.skip("needs ../shared with corpora and tokenizers")
    return SHARED
