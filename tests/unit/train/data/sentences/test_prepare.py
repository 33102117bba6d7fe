"""Labelled sentences of every form become the same rows; what is wrong with them is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from train.config import TrainConfig
from train.config.command_line import load_config
from train.data.sentences.arrays import open_split, read_meta
from train.data.sentences.batches import SentenceBatches, filled
from train.data.sentences.prepare import find_prepared, prepare_sentences
from train.errors import UserError

ROWS = [
    {"sentence": 'a "quoted word', "label": 1},
    {"sentence": "plain words, and a comma", "label": 0},
    {"sentence": "the last of them", "label": 1},
]
HELD_OUT = [{"sentence": "held out", "label": 0}]


def config_of(folder: Path, suffix: str = ".jsonl", *more: str) -> TrainConfig:
    given = {argument.partition("=")[0] for argument in more}
    defaults = [
        "--task=text_classification",
        "--model.architecture=roberta",
        "--model.vocab_size=300",
        "--model.num_labels=2",
        f"--data.directory={folder / 'prepared'}",
        f"--sentences.train={folder}/train{suffix}",
        f"--sentences.validation={folder}/validation{suffix}",
        "--sentences.sequence_length=24",
        "--run.micro_batch=2",
        "--run.global_batch=4",
    ]
    return load_config([each for each in defaults if each.partition("=")[0] not in given] + [*more])


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".tsv":
        lines = [rows[0].keys(), *(row.values() for row in rows)]
        path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    else:
        import csv

        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0].keys())
            table.writeheader()
            table.writerows(rows)


def write_both(folder: Path, suffix: str, rows: list[dict[str, Any]] = ROWS) -> None:
    write(folder / f"train{suffix}", rows)
    write(folder / f"validation{suffix}", HELD_OUT)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".tsv", ".csv"])
def test_every_form_gives_the_tokens_that_transformers_gives(tmp_path, suffix):
    write_both(tmp_path, suffix)
    folder = prepare_sentences(config_of(tmp_path, suffix))
    rows = open_split(folder, "train")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = tokenizer([row["sentence"] for row in ROWS])["input_ids"]
    assert rows.tokens.tolist() == [id_ for row in expected for id_ in row]
    assert np.diff(rows.ends, prepend=0).tolist() == [len(row) for row in expected]
    assert rows.labels.tolist() == [1, 0, 1]
    assert len(open_split(folder, "validation")) == 1
    assert rows.types is None


def test_a_second_time_finds_them_and_other_rows_are_other_rows(tmp_path):
    write_both(tmp_path, ".jsonl")
    config = config_of(tmp_path)
    folder = prepare_sentences(config)
    before = (folder / "sentences.json").stat().st_mtime_ns
    assert prepare_sentences(config) == folder
    assert (folder / "sentences.json").stat().st_mtime_ns == before
    assert find_prepared(config) == (folder, True)
    write(tmp_path / "train.jsonl", ROWS[::-1])
    other = prepare_sentences(config)
    assert other != folder
    assert read_meta(other).content != read_meta(folder).content


def test_pairs_of_bert_have_types_and_both_marks(tmp_path):
    rows = [{"a": "first words", "b": "second", "label": "0.5"}] * 2
    write(tmp_path / "train.tsv", rows)
    write(tmp_path / "validation.tsv", rows)
    more = ("--task=text_regression", "--model.architecture=bert", "--model.num_labels=1")
    config = config_of(tmp_path, ".tsv", *more, "--sentences.text=a,b")
    folder = prepare_sentences(config)
    split = open_split(folder, "train")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = tokenizer("first words", "second")
    count = len(expected["input_ids"])
    assert split.tokens[:count].tolist() == expected["input_ids"]
    assert split.types is not None
    assert split.types[:count].tolist() == expected["token_type_ids"]
    assert split.labels.tolist() == [0.5, 0.5]


def test_long_rows_are_cut_and_short_ones_filled_under_a_mask(tmp_path):
    write_both(tmp_path, ".jsonl", [{"sentence": "x " * 99, "label": 0}, ROWS[2]])
    split = open_split(prepare_sentences(config_of(tmp_path)), "train")
    assert split.lengths(np.arange(2)).max() == 24
    micro = filled(split, np.array([0, 1]), 0, regression=False)
    mask = micro.inputs["attention_mask"]
    assert mask.sum(1).tolist() == split.lengths(np.arange(2)).tolist()
    assert (micro.inputs["input_ids"][mask == 0] == 1).all()  # RoBERTa's fill
    whole = filled(split, np.array([1]), 24, regression=False)
    assert whole.inputs["input_ids"].shape == (1, 24)
    own = filled(split, np.array([1]), 0, regression=False)
    assert own.inputs["input_ids"].shape[1] % 8 == 0


def test_any_world_size_sees_the_same_rows(tmp_path):
    rows = [{"sentence": f"number {n}", "label": n % 2} for n in range(9)]
    write_both(tmp_path, ".jsonl", rows)
    split = open_split(prepare_sentences(config_of(tmp_path)), "train")
    batches = SentenceBatches(split, 7, 4, 24, False)
    for k in (0, 5):
        [one] = batches.batch(k, 0, 1, 4)
        two = [batches.batch(k, rank, 2, 1) for rank in range(2)]
        spread = [two[rank][step].inputs["input_ids"][0] for step in range(2) for rank in range(2)]
        assert one.inputs["input_ids"].tolist() == [row.tolist() for row in spread]
        assert batches.tokens(k) == int(one.inputs["attention_mask"].sum())


BAD = {
    "sentence is empty": {"sentence": "  ", "label": 0},
    "label 2 is out of range: 0 to 1": {"sentence": "words", "label": 2},
    "label -1 is out of range: 0 to 1": {"sentence": "words", "label": -1},
    "label 'spam' is none of 0, 1": {"sentence": "words", "label": "spam"},
    "no column label": {"sentence": "words"},
    "sentence is no text": {"sentence": None, "label": 0},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_set_aside_and_counted_or_refused(tmp_path, reason, capsys):
    write_both(tmp_path, ".jsonl", [*ROWS, BAD[reason]])
    with pytest.raises(UserError, match=r"1 of 5 rows .*sentences\.max_bad_fraction") as caught:
        prepare_sentences(config_of(tmp_path))
    assert f"train.jsonl:4: {reason}" in str(caught.value)
    folder = prepare_sentences(config_of(tmp_path, ".jsonl", "--sentences.max_bad_fraction=0.3"))
    assert read_meta(folder).set_aside == {reason: 1}
    assert len(open_split(folder, "train")) == 3
    assert f"1 set aside: {reason}" in capsys.readouterr().out


def test_columns_of_other_names_are_told(tmp_path):
    write_both(tmp_path, ".jsonl", [{"text": "words", "target": 1}])
    with pytest.raises(UserError, match=r"'sentence'.*has the columns text, target"):
        prepare_sentences(config_of(tmp_path))
    more = ("--sentences.text=text", "--sentences.label=label")
    with pytest.raises(UserError, match=r"sentences\.label names the column 'label'"):
        prepare_sentences(config_of(tmp_path, ".jsonl", *more))


def test_named_classes_are_numbered_in_their_order(tmp_path):
    rows = [{"sentence": "words", "label": "ham"}, {"sentence": "words", "label": "spam"}]
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "validation.jsonl", rows)
    config = config_of(tmp_path, ".jsonl", "--sentences.label_names=spam,ham")
    folder = prepare_sentences(config)
    assert open_split(folder, "train").labels.tolist() == [1, 0]
    assert read_meta(folder).label_names == ("spam", "ham")


def test_a_file_in_both_splits_is_refused(tmp_path):
    write_both(tmp_path, ".jsonl")
    config = config_of(tmp_path, ".jsonl", f"--sentences.validation={tmp_path}/train.jsonl")
    with pytest.raises(UserError, match=r"in sentences\.train and in sentences\.validation"):
        prepare_sentences(config)


def test_a_copy_of_glue_and_a_saved_folder_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list([row | {"idx": n} for n, row in enumerate(ROWS)])
    copy = tmp_path / "glue" / "cola"
    copy.mkdir(parents=True)
    for split in ("train", "validation"):
        table.to_parquet(str(copy / f"{split}-00000-of-00001.parquet"))
        table.to_csv(str(tmp_path / f"{split}.csv"))
        saved = table if split == "train" else table.select([0])
        saved.save_to_disk(str(tmp_path / f"{split}-saved"))
    write_both(tmp_path, ".jsonl")
    expected = open_split(prepare_sentences(config_of(tmp_path)), "train")
    own = ("--sentences.train=[]", "--sentences.validation=[]")
    source = ("--sentences.source=glue:cola", f"--sentences.repository={tmp_path / 'glue'}")
    saved = [f"--sentences.{split}={tmp_path}/{split}-saved" for split in ("train", "validation")]
    for arguments in ((*own, *source), saved):
        found = open_split(prepare_sentences(config_of(tmp_path, ".jsonl", *arguments)), "train")
        assert found.tokens.tolist() == expected.tokens.tolist()
        assert found.labels.tolist() == expected.labels.tolist()
    with pytest.raises(UserError, match=r"has no rte/train-\*\.parquet"):
        prepare_sentences(
            config_of(
                tmp_path,
                ".jsonl",
                *own,
                "--sentences.source=glue:rte",
                f"--sentences.repository={tmp_path / 'glue'}",
            )
        )


def test_the_standard_library_gives_disjoint_splits(tmp_path):
    own = ("--sentences.train=[]", "--sentences.validation=[]", "--sentences.source=stdlib")
    config = config_of(tmp_path, ".jsonl", *own, "--model.num_labels=8")
    from train.data.sentences.stdlib_sentences import stdlib_rows

    train, held_out = (
        {row.values["sentence"] for row in stdlib_rows(s)} for s in ("train", "validation")
    )
    assert len(train) > 2 * len(held_out) > 1000
    assert not train & held_out
    with pytest.raises(UserError, match=r"model\.num_labels is 3, and there are 8 classes"):
        prepare_sentences(config_of(tmp_path, ".jsonl", *own, "--model.num_labels=3"))
    with pytest.raises(UserError, match=r"model\.vocab_size is 200"):
        prepare_sentences(
            config_of(tmp_path, ".jsonl", *own, "--model.num_labels=8", "--model.vocab_size=200")
        )
    assert find_prepared(config)[1] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sentences.source=stdlib"], r"sentences\.train is set.*brings its own"),
        (["--sentences.train=[]"], r"sentences\.train is empty"),
        (["--sentences.text=a,b,c"], r"one column of text, or two"),
        (["--sentences.metric=pearson_spearman"], r"predicts classes; leave it on auto"),
        (["--sentences.metric=f1", "--model.num_labels=3"], r"label 1 of two"),
        (["--model.num_labels=1"], r"at least 2"),
        (["--task=text_regression"], r"must be 1, for task is text_regression"),
        (["--sentences.revision=1234"], r"it is for glue:NAME"),
        (["--sentences.tokenizer=bert"], r"it names no revision"),
        (["--model.architecture=llama"], r"one for the task text_classification: roberta or bert"),
        (["--model.max_positions=8"], r"less than sentences\.sequence_length = 24"),
    ],
)
def test_what_cannot_go_together_is_refused(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        config_of(tmp_path, ".jsonl", *arguments)


def test_an_encoder_s_settings_are_refused_elsewhere():
    with pytest.raises(
        UserError, match=r"model\.dropout is 0\.1, and model\.architecture is llama"
    ):
        load_config(["--model.dropout=0.1"])
