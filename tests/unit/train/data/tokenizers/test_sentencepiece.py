"""Tokenizers: exact round trips, determinism, and the messages of models that do not fit."""

from __future__ import annotations

import inspect
import itertools
import json

import pytest

from train.data.tokenizers.load import load_tokenizer
from train.data.tokenizers.sentencepiece import sample_documents, train_tokenizer
from train.errors import UserError

NASTY = [
    "def f(x):\n    if x:\n\t\treturn  x   # é 日本 😀\n\n\n",
    " leading",
    "trailing ",
    "\n",
    "   ",
    "\r\n\t",
    "\x00\x01",
    "</s>",
    "<unk>",
    "<0x41>",
    "\ufeffbom",
    "e\u0301 \u00e9 ﬁ ½",
    "\u2028\u3000",
]


@pytest.mark.parametrize("text", NASTY)
def test_text_comes_back_exactly(tokenizer, text):
    [ids] = tokenizer.encode([text])
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_id not in ids


def test_real_code_comes_back_exactly_and_shorter(tmp_path):
    sources = [inspect.getsource(module) for module in (json.decoder, json.encoder, inspect)]
    tokenizer = train_tokenizer(sources, 1024, tmp_path / "code.model")
    assert tokenizer.size == 1024
    encoded = tokenizer.encode(sources)
    assert [tokenizer.decode(ids) for ids in encoded] == sources
    assert sum(map(len, encoded)) < sum(map(len, sources)) / 2.5


def test_same_documents_same_model(documents, tmp_path):
    first = train_tokenizer(documents, 320, tmp_path / "a.model")
    assert train_tokenizer(documents, 320, tmp_path / "b.model").sha256 == first.sha256
    assert load_tokenizer(tmp_path / "a.model").sha256 == first.sha256
    assert train_tokenizer(documents[:50], 320, tmp_path / "c.model").sha256 != first.sha256


def test_vocabulary_too_small_to_train(documents, tmp_path):
    with pytest.raises(UserError, match=r"cannot train 100 pieces .*Change model.vocab_size"):
        train_tokenizer(documents, 100, tmp_path / "a.model")


def test_vocabulary_larger_than_the_text_can_fill(tmp_path):
    try:
        tokenizer = train_tokenizer(["a few words only"], 5000, tmp_path / "a.model")
    except UserError as error:
        assert "5000 pieces on 16 characters" in str(error)
    else:
        assert tokenizer.size <= 5000


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(UserError, match="no training documents"):
        train_tokenizer([], 320, tmp_path / "a.model")


def test_models_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.model does not exist"):
        load_tokenizer(tmp_path / "nowhere.model")
    (tmp_path / "empty.model").touch()
    with pytest.raises(UserError, match=r"empty.model is empty \(0 bytes\)"):
        load_tokenizer(tmp_path / "empty.model")
    (tmp_path / "text.model").write_text("no model at all")
    with pytest.raises(UserError, match=r"text.model is not a SentencePiece model"):
        load_tokenizer(tmp_path / "text.model")


def test_sample_is_bounded_and_spread_over_the_corpus():
    texts = [f"{number:05d}" + "x" * 95 for number in range(10_000)]
    sample = sample_documents(iter(texts), budget=50_000)
    numbers = [int(text[:5]) for text in sample]
    assert 25_000 <= sum(map(len, sample)) <= 50_000
    assert numbers == sorted(set(numbers))
    assert numbers[0] < 100 and numbers[-1] > 9_900
    assert max(b - a for a, b in itertools.pairwise(numbers)) < 3 * 10_000 / len(numbers)


def test_sample_of_a_small_corpus_is_all_of_it(documents):
    assert sample_documents(documents) == documents


def test_t5(shared):
    tokenizer = load_tokenizer(shared / "tokenizers/t5/spiece.model")
    assert (tokenizer.size, tokenizer.eos_id) == (32000, 1)
    assert tokenizer.sha256.startswith("d60acb12")
    [ids] = tokenizer.encode(["The house is wonderful."])
    assert ids == [37, 629, 19, 1627, 5]
