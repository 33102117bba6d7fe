"""From configuration to loop: mixtures prepared, read by weight and named in checkpoints."""

from __future__ import annotations

import dataclasses

import pytest

from train.config import EvalConfig, MixtureSource, RunConfig, TrainConfig
from train.config.command_line import dump_config, load_config
from train.data.loading.dataset import data_identity, open_data
from train.data.loading.memmap import TokenFile
from train.data.preparing.corpora import prepare_all
from train.data.tokenizers.load import load_prepared
from train.errors import UserError

QUIET: list[str] = []


@pytest.fixture
def mixed(settings, write_rows, sentences, tmp_path):
    """Two sources, three rows of the first to one of the second, whose texts say where they come
    from.
    """
    for name in ("a", "b"):
        write_rows(f"{name}.jsonl", [f"{name} {text}" for text in sentences(80, seed=ord(name))])
    sources = (
        MixtureSource("first", (str(tmp_path / "a.jsonl"),), 0.75),
        MixtureSource(
            "second",
            (str(tmp_path / "b.jsonl"),),
            0.25,
            (str(write_rows("v.jsonl", ["b validation " + "x y " * 30] * 5)),),
        ),
    )
    return settings(files=(), mixture=sources, rows="padded", workers=1)


def configured(data) -> TrainConfig:
    return TrainConfig(
        data=data, run=RunConfig(global_batch=8, micro_batch=2), eval=EvalConfig(tokens=160)
    )


def test_a_mixture_from_files_to_batches(mixed):
    folders = prepare_all(mixed, 320, QUIET.append)
    batches, validation = open_data(folders, configured(mixed))
    tokenizer = load_prepared(folders[0])
    starts = [
        tokenizer.decode(tokens.tolist())[0]
        for k in range(5)
        for micro in batches.batch(k, 0, 1, 2)
        for tokens in micro.inputs["input_ids"]
    ]
    assert [starts[8 * k : 8 * k + 8].count("b") for k in range(5)] == [2] * 5
    texts = [tokenizer.decode(tokens.tolist()) for tokens in validation.tokens]
    assert (
        sum(text.startswith("a ") for text in texts) == 7
        and sum(text.startswith("b validation") for text in texts) == 2
    )
    assert validation.tokens.shape[1] == mixed.sequence_length


def test_sources_share_a_tokenizer_trained_on_all_of_them(mixed, tmp_path):
    config = dataclasses.replace(mixed, tokenizer="")
    folders = prepare_all(config, 330, QUIET.append)
    first, second = (load_prepared(folder) for folder in folders)
    assert first.sha256 == second.sha256 and first.size == 330
    [kept] = (tmp_path / "prepared").glob("tokenizer-*.model")
    before = kept.stat().st_mtime_ns
    assert prepare_all(config, 330, QUIET.append) == folders and kept.stat().st_mtime_ns == before
    other = dataclasses.replace(
        config, mixture=(dataclasses.replace(config.mixture[0], weight=0.1), config.mixture[1])
    )
    # its sample has other shares, though of so small a corpus it is all there is
    prepare_all(other, 330, QUIET.append)
    assert len(list((tmp_path / "prepared").glob("tokenizer-*.model"))) == 2


def test_validation_text_of_one_source_is_no_training_text_of_another(mixed):
    first, second = mixed.mixture
    leaky = dataclasses.replace(first, validation_files=second.files)
    with pytest.raises(UserError, match=r"b.jsonl is in data.files and .*or is both in data.mix"):
        prepare_all(dataclasses.replace(mixed, mixture=(leaky, second)), 320, QUIET.append)


def test_new_weights_need_no_new_preparation_but_another_identity(mixed):
    folders = prepare_all(mixed, 320, QUIET.append)
    other = dataclasses.replace(
        mixed, mixture=(dataclasses.replace(mixed.mixture[0], weight=1.0), mixed.mixture[1])
    )
    assert prepare_all(other, 320, QUIET.append) == folders
    same = dataclasses.replace(
        mixed,
        mixture=tuple(
            dataclasses.replace(source, weight=4 * source.weight) for source in mixed.mixture
        ),
    )
    identity = data_identity(folders, mixed)
    assert identity == data_identity(folders, same)
    assert (
        len(
            {
                identity,
                data_identity(folders, other),
                data_identity(folders, dataclasses.replace(mixed, rows="packed")),
            }
        )
        == 3
    )


def test_a_missing_file_of_the_last_source_stops_before_the_first(mixed, tmp_path):
    wrong = dataclasses.replace(mixed.mixture[1], files=(str(tmp_path / "nowhere.jsonl"),))
    with pytest.raises(UserError, match=r"nowhere.jsonl does not exist"):
        prepare_all(
            dataclasses.replace(mixed, mixture=(mixed.mixture[0], wrong)), 320, QUIET.append
        )
    assert not (tmp_path / "prepared").exists()


def test_one_source_packed_or_padded(settings, write_rows, sentences):
    config = settings(write_rows("a.jsonl", sentences(80)), workers=1)
    folders = prepare_all(config, 320, QUIET.append)
    packed, _ = open_data(folders, configured(config))
    padded, _ = open_data(folders, configured(dataclasses.replace(config, rows="padded")))
    assert packed.tokens(0) == 8 * 16 >= padded.tokens(0)
    assert len(TokenFile(folders[0], "train").ends) > 60


RECIPE = """
data:
  source: files
  mixture:
    - {name: wiki, files: "wiki/*.json.gz", weight: 3}
    - name: code
      files: [code/a.jsonl, code/b.jsonl]
      weight: 1
"""


def test_a_mixture_in_a_recipe_and_on_the_command_line(tmp_path):
    path = tmp_path / "mixed.yaml"
    path.write_text(RECIPE)
    config = load_config(["--config", str(path)])
    assert config.data.mixture == (
        MixtureSource("wiki", ("wiki/*.json.gz",), 3.0),
        MixtureSource("code", ("code/a.jsonl", "code/b.jsonl"), 1.0),
    )
    path.write_text(dump_config(config))
    assert load_config(["--config", str(path)]) == config
    line = (
        "[{name: wiki, files: 'wiki/*.json.gz', weight: 3}, "
        "{name: code, files: [code/a.jsonl, code/b.jsonl], weight: 1}]"
    )
    assert load_config(["--data.source", "files", "--data.mixture", line]).data == config.data


WRONG = {
    "[{name: a, files: x, weight: -1}]": (
        r"data.mixture\[0\].weight is -1.0; it must be greater than 0"
    ),
    "[{name: a, files: x, weight: 0}]": r"mixture\[0\].weight is 0.0; it must be",
    "[{name: a, files: x, weight: .inf}]": r"data.mixture must be a list of",
    "[{name: a, files: x, weight: 1}, {name: b, files: x, weight: 1.0e-9}]": (
        r"mixture\[1\].weight is 1e-09, less than a millionth"
    ),
    "[{name: a, files: [], weight: 1}]": r"mixture\[0\].files is \(\); it must be paths or globs",
    "[{name: a, files: x, weight: 1}, {name: a, files: y, weight: 1}]": (
        r"mixture\[0\].name is 'a'; it must be unlike the other"
    ),
    "[{name: ' ', files: x, weight: 1}]": r"mixture\[0\].name is ' '; it must be a name",
    "[{name: a, file: x, weight: 1}]": (
        r"unknown key 'file' of an entry of data.mixture on the command line; did you mean files\?"
    ),
    "[{name: a, files: x}]": "an entry of data.mixture has no weight on the command line",
    "[{name: a, files: x, weight: lots}]": (
        r"data.mixture must be a list of \{name, files, weight, validation_files\}, not"
    ),
    "some.jsonl": r"data.mixture must be a list of \{name, files, weight, validation_files\}",
    "[{name: a": r"data.mixture must be a list of",
}


@pytest.mark.parametrize(("mixture", "message"), WRONG.items())
def test_mixtures_that_mean_nothing(mixture, message):
    with pytest.raises(UserError, match=message):
        load_config(["--data.source", "files", "--data.mixture", mixture])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.source", "stdlib"], "data.mixture is set, and data.source is stdlib"),
        (
            ["--data.source", "files", "--data.files", "y"],
            "data.files is set, and so is data.mixture",
        ),
        (
            ["--data.source", "files", "--data.validation_files", "y"],
            "data.validation_files is set, and so is data.mixture",
        ),
    ],
)
def test_a_mixture_beside_what_it_replaces(arguments, message):
    with pytest.raises(UserError, match=message):
        load_config(["--data.mixture", "[{name: a, files: x, weight: 1}]", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.workers", "-1"], "data.workers is -1; it must be at least 0"),
        (["--data.max_row_bytes", "-1"], "data.max_row_bytes is -1"),
        (["--data.rows", "paded"], "data.rows must be one of packed, padded.*did you mean padded?"),
        (["--data.tokenizer", "hf:google-t5/t5-base"], "names no revision"),
    ],
)
def test_other_settings_that_mean_nothing(arguments, message):
    with pytest.raises(UserError, match=message):
        load_config(["--data.source", "stdlib", *arguments])
