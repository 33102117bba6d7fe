"""Hugging Face tokenizers: a folder made here, a name with its revision through a stand-in, and
every refusal.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from train.config.tokenizer_name import check_name
from train.data.loading.memmap import TokenFile, read_meta
from train.data.preparing.prepare import prepare
from train.data.tokenizers.load import load_prepared, load_tokenizer
from train.errors import UserError

QUIET: list[str] = []


FORM = "neither a folder nor a name"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A byte-level BPE of 300 pieces that puts tokens of its own around a text, cuts and pads it:
    none of that is wanted here.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["the cat sat on the mat while the rain fell"] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9, pad_id=0, pad_token="<s>")
    path = tmp_path_factory.mktemp("hf") / "small"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(path)
    return path


def test_ids_are_those_of_the_text_alone(folder):
    tokenizer = load_tokenizer(f"hf:{folder}")
    plain = AutoTokenizer.from_pretrained(folder)
    text = "the cat sat on the mat while  é 😀"
    assert tokenizer.encode([text]) == [
        plain(text, add_special_tokens=False, truncation=False, padding=False)["input_ids"]
    ]
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text
    assert (tokenizer.eos_id, tokenizer.size) == (1, max(plain.get_vocab().values()) + 1)


def test_text_that_spells_a_special_token_is_text(folder):
    tokenizer = load_tokenizer(f"hf:{folder}")
    [ids] = tokenizer.encode(["one</s>two"])
    assert tokenizer.eos_id not in ids and tokenizer.decode(ids) == "one</s>two"


def test_a_corpus_prepared_with_it_and_the_tokenizer_kept(
    folder, settings, write_rows, sentences, tmp_path
):
    documents = sentences(60)
    config = settings(write_rows("a.jsonl", documents), tokenizer=f"hf:{folder}", workers=1)
    prepared = prepare(config, 400, QUIET.append)
    kept = load_prepared(prepared)
    given = load_tokenizer(f"hf:{folder}")
    assert kept.sha256 == given.sha256 == read_meta(prepared).tokenizer_sha256
    file = TokenFile(prepared, "train")
    starts = [0, *file.ends[:-1].tolist()]
    texts = [
        kept.decode(file.tokens[start : end - 1])
        for start, end in zip(starts, file.ends.tolist(), strict=True)
    ]
    assert texts == [text for text in documents if text in set(texts)] and len(texts) > 40
    reread = AutoTokenizer.from_pretrained(prepared)
    assert (
        reread.eos_token_id == 1
        and reread.get_vocab() == AutoTokenizer.from_pretrained(folder).get_vocab()
    )
    # the same tokenizer
    assert (
        prepare(dataclasses.replace(config, tokenizer=f"hf:{prepared}"), 400, QUIET.append)
        == prepared
    )
    with pytest.raises(UserError, match=r"has \d+ pieces but model.vocab_size is 200"):
        prepare(config, 200, QUIET.append)


def test_the_revision_reaches_the_hub_and_no_code_is_run(folder, monkeypatch):
    calls = []
    real = AutoTokenizer.from_pretrained

    def from_pretrained(name, **options):
        calls.append((name, options))
        return real(folder)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", from_pretrained)
    tokenizer = load_tokenizer("hf:some/name@0123abc")
    assert calls == [("some/name", {"revision": "0123abc", "trust_remote_code": False})]
    assert tokenizer.path == "hf:some/name@0123abc"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:t5-base", "names no revision"),
        ("hf:a/b@", "names no revision"),
        ("hf:a/b@main", "the branch main, which moves"),
        ("hf:", FORM),
        ("hf:./nowhere", FORM),
        ("hf:a/b/c@1", FORM),
    ],
)
def test_names_that_pin_nothing(name, message):
    with pytest.raises(
        UserError, match=rf"data.tokenizer is '{name}'.*{message}.*hf:NAME@REVISION"
    ):
        check_name(name)


def test_what_cannot_be_loaded(folder, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError,
        match=r"data.tokenizer: hf:.*empty cannot be loaded \(\w+: .*"
        "check the name, the revision and the network",
    ):
        load_tokenizer(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(UserError, match=r"is a folder; name a .model file in it, or write hf:"):
        load_tokenizer(folder)
    nameless = AutoTokenizer.from_pretrained(folder)
    nameless.eos_token = None
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: nameless)
    with pytest.raises(UserError, match="has no end-of-sequence token"):
        load_tokenizer("hf:a/b@1")


def test_a_damaged_tokenizer_of_a_prepared_folder(folder, settings, write_rows, sentences):
    prepared = prepare(
        settings(write_rows("a.jsonl", sentences(60)), tokenizer=f"hf:{folder}"), 400, QUIET.append
    )
    (prepared / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"The tokenizer in .* is damaged .* prepare again"):
        load_prepared(prepared)


def test_ids_that_are_not_in_a_row_count_to_the_largest():
    """Added tokens may leave a gap; embeddings must reach past it."""
    from train.data.tokenizers.huggingface import HuggingFaceTokenizer

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 70_000, "</s>": 2}, unk_token="a"))
    tokenizer.add_special_tokens([AddedToken("</s>")])
    assert HuggingFaceTokenizer(tokenizer.to_str(), "</s>", "x").size == 70_001
