"""Texts that spell special pieces, under every kind of model that has them in its vocabulary."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from train.data.preparing.encode import SPECIAL_PIECE, Plan, encode_chunk
from train.data.sources.chunks import Chunk
from train.data.tokenizers.huggingface import HuggingFaceTokenizer
from train.data.tokenizers.load import load_tokenizer
from train.data.tokenizers.special_pieces import out_of_reach, special_ids

SPECIAL = ["<unk>", "</s>", "<pad>"]
PIECES = [*SPECIAL, *"abc<>/s", "ab"]
NUMBERS = {piece: id_ for id_, piece in enumerate(PIECES)}


def unigram():
    return models.Unigram([(piece, -float(len(PIECES) - id_)) for piece, id_ in NUMBERS.items()], 0)


def wordlevel():
    return models.WordLevel(NUMBERS, unk_token="<unk>")


def wordpiece():
    return models.WordPiece({**NUMBERS, "##b": 20}, unk_token="<unk>", max_input_chars_per_word=100)


def bpe():
    """A vocabulary whose merges make a special piece."""
    vocab = {**NUMBERS, "</": 20, "s>": 21}
    merges = [("a", "b"), ("<", "/"), ("s", ">"), ("</", "s>")]
    return models.BPE(vocab, merges, unk_token="<unk>")


def tokenizer_of(model, special: bool = True) -> HuggingFaceTokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_tokens([AddedToken(piece, special=special) for piece in SPECIAL])
    return HuggingFaceTokenizer(tokenizer.to_str(), "</s>", "test")


@pytest.mark.parametrize("model", [unigram, wordlevel, wordpiece, bpe])
def test_a_text_that_spells_special_pieces_has_none(model):
    tokenizer = tokenizer_of(model())
    assert tokenizer.special_ids == {1, 2}
    [ids] = tokenizer.encode(["ab </s> <pad> ab"])
    assert ids[0] == ids[-1] == NUMBERS["ab"]
    assert len(ids) > 2 and not tokenizer.special_ids & set(ids)


def test_pieces_that_are_spelled_out_come_back_as_text():
    [ids] = tokenizer_of(unigram()).encode(["a</s>b"])
    assert [PIECES[id_] for id_ in ids] == ["a", "<", "/", "s", ">", "b"]


def test_eos_is_special_even_where_its_entry_does_not_say_so():
    tokenizer = tokenizer_of(unigram(), special=False)
    assert tokenizer.special_ids == {1}
    [ids] = tokenizer.encode(["a </s> <pad>"])
    assert 1 not in ids and 2 in ids  # a user's own piece is meant to be found


def test_ids_and_ordinary_texts_are_as_before():
    definition = tokenizer_of(wordpiece()).definition
    renamed = json.loads(out_of_reach(definition, "</s>"))
    before = json.loads(definition)
    assert list(renamed["model"]["vocab"].values()) == list(before["model"]["vocab"].values())
    assert [token["id"] for token in renamed["added_tokens"]] == [0, 1, 2]
    assert special_ids(definition, "</s>") == {1, 2}


def test_what_comes_through_all_the_same_is_set_aside():
    class Leaky(HuggingFaceTokenizer):
        def encode(self, texts):
            return [[3, 1, 4] if "</s>" in text else [3] for text in texts]

    leaky = Leaky(tokenizer_of(unigram()).definition, "</s>", "test")
    rows = [("a.jsonl", line, text) for line, text in enumerate(["a", "a</s>b", "a"], start=1)]
    encoded = encode_chunk(Chunk("value", rows=rows), leaky, Plan("train", 0.0, "uint16"))
    assert encoded.bad == [(2, "a.jsonl", 2, SPECIAL_PIECE)]
    assert encoded.documents == 2


def test_the_t5_tokenizer_of_both_forms_agrees(shared):
    folder = shared / "tokenizers/t5"
    text = "was <s>20</s> now 15 <pad> <extra_id_3> </s>"
    ours, theirs = (load_tokenizer(name) for name in (f"hf:{folder}", folder / "spiece.model"))
    assert ours.encode([text]) == theirs.encode([text])
    assert ours.encode_arrays([text])[0].tolist() == ours.encode([text])[0]
    assert theirs.encode_arrays([text])[0].tolist() == theirs.encode([text])[0]
