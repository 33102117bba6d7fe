"""The notes below a table: what differs from the paper, and what runs have not in common."""

import dataclasses
import hashlib
from typing import get_args

import pytest

from tests.unit.train.experiments.tables.making import RECIPES, fill, finish, make_grid, runs_of
from train.config import DataConfig, MixtureSource, ModelConfig, TaskName
from train.config.command_line import load_config
from train.config.in_words import data_words
from train.experiments.tables import paper_reference as paper
from train.experiments.tables.collect import collect
from train.experiments.tables.paper_reference import SIZES, T5_SHA256, size_of
from train.experiments.tables.setup_notes import _POINTS, caption

SOURCE = "arXiv 2506.14562, a table"
LIKE_PAPER = {
    "data.rows": "padded",
    "eval.tokens": "10000000",
    "run.data_seed": "42",
    "decay.compat": "published",
}
FACTS = {"tokens": 1_013_000_000, "val_tokens": 9_950_000, "precision": "bfloat16"}
PUBLISHED = 32.7**0.99  # what 99 batches make of 32.7


def caption_of(grid, root):
    return caption(grid, collect(grid.runs(root)).records)


@pytest.fixture
def as_t5(monkeypatch):
    """The file that the runs of these tests keep counts as T5's."""
    monkeypatch.setattr(paper, "T5_SHA256", hashlib.sha256(b"a model").hexdigest())


def test_runs_made_like_the_papers_differ_in_their_masters_alone(tmp_path, as_t5):
    grid = make_grid({"60M": LIKE_PAPER}, seeds=[42], source=SOURCE, recipe="llama_60m")
    fill(
        grid,
        tmp_path,
        {
            ("Uniform", "60M"): {42: (32.7, PUBLISHED)},
            ("AlphaDecay", "60M"): {42: (32.0, 32.0**0.99)},
        },
        **FACTS,
    )
    [departure] = caption_of(grid, tmp_path).departures
    assert departure.what == "precision" and departure.here == "bfloat16 with float32 masters"


@pytest.mark.parametrize(
    ("override", "what", "here", "paper_has"),
    [
        (
            {"data.source": "files", "data.files": '["a/*.gz", "b.txt", "c.txt"]'},
            "data",
            "files `a/*.gz`, `b.txt` and 1 more",
            "C4",
        ),
        (
            {"data.rows": "packed"},
            "rows",
            "packed, no fill",
            "one document a row, cut or filled (published code)",
        ),
        ({"data.sequence_length": "128"}, "row length", "128", "256"),
        ({"model.vocab_size": "32128"}, "vocabulary", "32,128", "32,000"),
        ({"run.global_batch": "256"}, "rows a step", "256", "512"),
        ({"optim.lr": "3e-3"}, "peak learning rate", "0.003", "0.001"),
        (
            {"optim.warmup_steps": "500"},
            "schedule",
            "cosine to 10 %, 5 % warm-up",
            "cosine to 10 %, 10 % warm-up",
        ),
        (
            {"optim.schedule": "wsd"},
            "schedule",
            "wsd to 10 %, falling over the last 20%, 10 % warm-up",
            "cosine to 10 %, 10 % warm-up",
        ),
        ({"optim.grad_clip": "0"}, "gradient clipping", "none", "1 (published code: none)"),
        ({"run.steps": "20000", "optim.warmup_steps": "2000"}, "steps", "20,000", "10,000"),
        ({"run.data_seed": "-1"}, "seeds", "41", None),
    ],
)
def test_each_departure_is_told(tmp_path, as_t5, override, what, here, paper_has):
    grid = make_grid(
        {"60M": LIKE_PAPER | override}, ["Uniform"], seeds=[41], source=SOURCE, recipe="llama_60m"
    )
    fill(grid, tmp_path, {("Uniform", "60M"): {41: (32.7, PUBLISHED)}}, **FACTS)
    [departure, precision] = (
        caption_of(grid, tmp_path).departures
        if what != "seeds"
        else caption_of(grid, tmp_path).departures[::-1]
    )
    assert (departure.what, departure.here) == (what, here) and precision.what == "precision"
    assert paper_has is None or departure.paper == paper_has


def test_what_only_a_run_knows_is_told(tmp_path):
    grid = make_grid(
        {"60M": LIKE_PAPER}, ["Uniform"], seeds=[42], source=SOURCE, recipe="llama_60m"
    )
    facts = {"tokens": 1_310_720_000, "val_tokens": 2_000_000, "precision": "float32"}
    fill(grid, tmp_path, {("Uniform", "60M"): {42: (32.7, 32.7 ** (15 / 16))}}, **facts)
    departures = {d.what: (d.here, d.paper) for d in caption_of(grid, tmp_path).departures}
    assert departures == {
        "tokenizer": ("SentencePiece, trained on the corpus", "T5's"),
        "tokens": ("1.31B", "1.00B without fill"),
        "precision": ("float32", "bfloat16 throughout, no float32 masters (published code)"),
        "validation tokens": ("2.00M", "10M (published code)"),
        "counted as published": ("loss × 0.94", "loss × 0.99, from about 99 validation batches"),
    }


def test_a_model_that_is_none_of_the_papers_is_told_with_the_range_of_its(tmp_path):
    grid = make_grid({"toy": {}}, ["Uniform"], seeds=[42], source=SOURCE)
    fill(grid, tmp_path, {("Uniform", "toy"): {42: (90.0, 80.0)}})
    departures = {d.what: (d.here, d.paper) for d in caption_of(grid, tmp_path).departures}
    assert departures["model"] == (
        "hidden 256, intermediate 688, 4 heads, 6 layers",
        "60M, 135M, 350M or 1B",
    )
    assert departures["steps"] == ("150", "10,000 to 90,000") and departures["tokens"] == (
        "614.4k",
        "1.00B to 9.00B without fill",
    )
    assert departures["data"][0] == "source of the Python standard library"


def test_a_departure_of_some_columns_names_them(tmp_path):
    grid = make_grid(
        {"a": {}, "b": {"optim.lr": "1e-3"}, "c": {"optim.lr": "1e-3"}},
        ["Uniform"],
        seeds=[42],
        source=SOURCE,
        recipe="llama_60m",
    )
    finish(runs_of(grid, tmp_path, "Uniform", "a")[42], 30.0)
    finish(runs_of(grid, tmp_path, "Uniform", "b")[42], 30.0, tokens=10**9)
    departures = {d.what: (d.here, d.paper) for d in caption_of(grid, tmp_path).departures}
    assert departures["tokens"] == ("a: 1.31B", "1.00B without fill")
    assert departures["rows"][0] == "packed, no fill"  # both columns that have runs
    made = dict(caption_of(grid, tmp_path).made)
    assert made["tokens"] == "a: 1.31B; b: 1.00B" and made["ranks"] == "2 on cpu, ZeRO-3"


def test_a_grid_of_our_own_departs_from_nothing(tmp_path):
    grid = make_grid({"toy": {}}, ["Uniform"], seeds=[42])
    fill(grid, tmp_path, {("Uniform", "toy"): {42: (90.0, 80.0)}})
    notes = caption_of(grid, tmp_path)
    assert (
        notes.departures is None
        and dict(notes.made)["steps"] == "150"
        and dict(notes.made)["commit"] == "0123456789"
    )


def test_seeds_say_what_they_change(tmp_path):
    for place, overrides, words in (
        ("a", {}, "the initialisation and the order of the data"),
        ("b", {"run.data_seed": "42"}, "the initialisation"),
        ("c", {"run.init_seed": "42"}, "the order of the data"),
    ):
        grid = make_grid({"toy": overrides}, ["Uniform"], seeds=[1, 2, 3])
        fill(grid, tmp_path / place, {("Uniform", "toy"): {1: (90.0, 80.0), 3: (91.0, 81.0)}})
        assert (
            dict(caption_of(grid, tmp_path / place).made)["seeds"] == f"1, 3, which change {words}"
        )


def test_runs_of_one_column_that_differ_are_named(tmp_path):
    grid = make_grid({"toy": {}, "other": {}}, seeds=[1, 2])
    fill(grid, tmp_path, {(row, "toy"): {1: (90.0, 80.0), 2: (90.0, 80.0)} for row in grid.rows})
    assert caption_of(grid, tmp_path).disagreements == ()
    finish(
        runs_of(grid, tmp_path, "AlphaDecay", "toy")[2],
        90.0,
        precision="bfloat16",
        tokens=9,
        world_size=4,
    )
    assert caption_of(grid, tmp_path).disagreements == (
        "toy: precision: float32 in 3 runs, bfloat16 in AlphaDecay seed 2",
        "toy: world size: 2 in 3 runs, 4 in AlphaDecay seed 2",
        "toy: tokens: 614,400 in 3 runs, 9 in AlphaDecay seed 2",
    )
    # Another column may differ from this one.
    fill(
        grid,
        tmp_path,
        {("AlphaDecay", "toy"): {2: (90.0, 80.0)}, ("Uniform", "other"): {1: (90.0, 80.0)}},
    )
    finish(runs_of(grid, tmp_path, "Uniform", "other")[1], 90.0, precision="bfloat16", tokens=9)
    assert caption_of(grid, tmp_path).disagreements == ()


def test_padded_rows_may_have_other_tokens_in_another_order_only(tmp_path):
    grid = make_grid({"toy": {"data.rows": "padded"}}, seeds=[1, 2])
    for row in grid.rows:
        for seed, run in runs_of(grid, tmp_path, row, "toy").items():
            finish(run, 90.0, tokens=1000 + seed)
    assert caption_of(grid, tmp_path).disagreements == ()
    finish(runs_of(grid, tmp_path, "AlphaDecay", "toy")[2], 90.0, tokens=1001)
    assert caption_of(grid, tmp_path).disagreements == (
        "toy: tokens: 1,002 in 1 run, 1,001 in AlphaDecay seed 2",
    )


def test_what_is_exempt_from_decay_is_the_same_under_every_method(tmp_path, as_t5):
    grid = make_grid(
        {"60M": LIKE_PAPER | {"decay.compat": ""}},
        ["Uniform", "AWD", "AlphaDecay"],
        [42],
        source=SOURCE,
        recipe="llama_60m",
    )
    fill(grid, tmp_path, {(row, "60M"): {42: (32.7, PUBLISHED)} for row in grid.rows}, **FACTS)
    departures = {d.what: (d.here, d.paper) for d in caption_of(grid, tmp_path).departures}
    del departures["precision"]
    assert departures == {
        "norm gains": ("not decayed", "decayed (published code)"),
        "first linear weight": ("a decay of its own", "the base decay (published code)"),
    }


@pytest.mark.parametrize(
    ("recipe", "size"),
    list(zip(("llama_60m", "llama_130m", "llama_350m", "llama_1b"), SIZES, strict=True)),
)
def test_the_sizes_are_those_of_the_recipes(recipe, size):
    config = load_config(["--config", str(RECIPES / f"{recipe}.yaml")])
    assert size_of(config.model) is size and (config.run.steps, config.optim.lr) == (
        size.steps,
        size.lr,
    )


def test_a_like_shape_is_not_enough():
    assert (
        size_of(ModelConfig()) is SIZES[0]
        and size_of(dataclasses.replace(ModelConfig(), num_kv_heads=4)) is None
    )
    assert size_of(dataclasses.replace(ModelConfig(), tie_embeddings=True)) is None
    assert size_of(dataclasses.replace(ModelConfig(), hidden_size=768)) is None


def test_a_mixture_is_named_by_its_sources():
    sources = (MixtureSource("web", ("a",), 3.0), MixtureSource("code", ("b",), 1.0))
    assert data_words(DataConfig(mixture=sources)) == "mixture of web (3), code (1)"


def test_the_hash_is_that_of_t5s_model(shared):
    assert (
        hashlib.sha256((shared / "tokenizers" / "t5" / "spiece.model").read_bytes()).hexdigest()
        == T5_SHA256
    )


def test_columns_of_one_size_are_named_by_it_and_rows_by_their_labels(tmp_path):
    lr = {"optim.lr": "1e-3"}
    grid = make_grid(
        {"60M, 0.1": {}, "60M, 0.05": {}, "135M, 0.1": lr, "135M, 0.05": lr}, seeds=[42]
    )
    one = {42: (90.0, 80.0)}
    fill(grid, tmp_path, {(row, column): one for row in grid.rows for column in grid.columns})
    finish(runs_of(grid, tmp_path, "AlphaDecay", "135M, 0.05")[42], 90.0, device="cuda")
    made = dict(caption_of(grid, tmp_path).made)
    assert made["peak learning rate"] == "60M: 0.002; 135M: 0.001"
    assert made["ranks"] == (
        "60M and 135M, 0.1: 2 on cpu, ZeRO-3; 135M, 0.05: 2 on cpu, ZeRO-3 (Uniform), 2 on cuda, "
        "ZeRO-3 (AlphaDecay)"
    )


def test_runs_of_every_task_have_a_caption():
    assert set(_POINTS) == set(get_args(TaskName))
