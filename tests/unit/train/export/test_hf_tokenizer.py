"""An exported tokenizer encodes and decodes as the SentencePiece model it was made from."""

from __future__ import annotations

import argparse
import gzip
import io
import json
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from train.data.tokenizers.load import load_tokenizer
from train.data.tokenizers.sentencepiece import SentencePieceTokenizer, train_tokenizer
from train.errors import UserError
from train.export.hf_tokenizer import write_tokenizer

CODE = Path(argparse.__file__).read_text()
ODD = [
    "",
    " ",
    "  a  b ",
    "\n\n x\t\ty  ",
    "</s> <s>strike</s> <unk> <pad> <0x0A>",
    "日本語 👍🏽 naïve ﬁ x²",
    "e\u0301 \u00a0nb sp\u200b zw",
    "a▁b",
    "\r\n crlf \x00 nul",
    "한국어 العربية",
    "aXaXaXa abababa banananas",
    "trailing   ",
]
KINDS = {
    "llama": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "unigram": {"model_type": "unigram", "pad_id": 3},
    "unigram-bytes": {
        "model_type": "unigram",
        "byte_fallback": True,
        "normalization_rule_name": "nfkc",
    },
}


def both(tokenizer: SentencePieceTokenizer, folder: Path):
    write_tokenizer(tokenizer, folder, 10**6)
    # beside which an export's tokenizer is found
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tokenizer, AutoTokenizer.from_pretrained(folder)


def disagreements(tokenizer: SentencePieceTokenizer, fast, texts: list[str]) -> list[str]:
    """Texts that are encoded otherwise; whose ids are decoded otherwise is an error at once."""
    encoded = tokenizer.encode(texts)
    assert [fast.decode(ids) for ids in encoded] == [tokenizer.decode(ids) for ids in encoded]
    return [text for text, ids in zip(texts, encoded, strict=True) if fast.encode(text) != ids]


def test_a_model_of_ours(tmp_path):
    tokenizer, fast = both(train_tokenizer([CODE], 800, tmp_path / "own.model"), tmp_path)
    assert disagreements(tokenizer, fast, [CODE, *ODD]) == []
    assert (fast.eos_token_id, fast.unk_token_id, fast.bos_token_id, fast.pad_token_id) == (
        1,
        0,
        None,
        None,
    )
    assert (tmp_path / "tokenizer.model").read_bytes() == tokenizer.model_bytes
    assert fast.decode(fast.encode(CODE)) == CODE


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_another(tmp_path, kind):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CODE.split("\n")),
        model_writer=model,
        vocab_size=700,
        minloglevel=2,
        num_threads=1,
        **KINDS[kind],
    )
    tokenizer, fast = both(SentencePieceTokenizer(model.getvalue(), tmp_path / kind), tmp_path)
    assert disagreements(tokenizer, fast, ODD) == []
    lines = [line for line in CODE.split("\n") if line.strip()]
    # A unigram model takes the likeliest cut; sums of 32 and of 64 bits break a near-tie either
    # way.
    assert len(disagreements(tokenizer, fast, lines)) <= (
        0 if kind == "llama" else 0.005 * len(lines)
    )
    assert (fast.bos_token_id, fast.eos_token_id, fast.pad_token_id) == (
        1,
        2,
        3 if kind == "unigram" else None,
    )


def test_t5(shared, tmp_path):
    tokenizer, fast = both(load_tokenizer(shared / "tokenizers" / "t5" / "spiece.model"), tmp_path)
    assert (len(fast), fast.pad_token_id, fast.eos_token_id, fast.unk_token_id) == (32000, 0, 1, 2)
    with gzip.open(next((shared / "corpora" / "c4").glob("*.gz")), "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for _, line in zip(range(200), lines, strict=False)]
    assert (
        len(disagreements(tokenizer, fast, texts)) <= 1
        and disagreements(tokenizer, fast, ODD) == []
    )


def test_a_kind_that_has_no_counterpart(tmp_path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CODE.split("\n")),
        model_writer=model,
        model_type="char",
        vocab_size=60,
        minloglevel=2,
    )
    with pytest.raises(UserError, match="neither a unigram nor a BPE"):
        write_tokenizer(
            SentencePieceTokenizer(model.getvalue(), tmp_path / "char.model"), tmp_path, 8
        )
