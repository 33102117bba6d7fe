"""Classifiers of text train under each engine, go on bit for bit and elsewhere, and are exported.

RoBERTa learns the classes of sentences from nothing; BERT a number for pairs, from a Hugging Face
folder and with decay towards it.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel

from tests.conftest import ROOT
from tests.integration.program import PROGRAM, figures, metrics, run, write_recipe
from train.data.tokenizers.pairs import train_pair_tokenizer
from train.export.trained import find_trained

ENGINES = {
    "zero1": {"deepspeed": {"config": "ds_configs/zero1.json"}},
    "zero3": {"deepspeed": {"config": "ds_configs/zero3.json"}},
    "fsdp2": {"engine": {"kind": "fsdp2"}},
}
RUNS = [(kind, engine) for kind in ("roberta", "bert") for engine in ENGINES]
TOLERANCE = 3e-6  # float32: gradients are summed in another order
WORDS = ("red", "blue", "green", "tree", "house", "river", "stone", "light")
Make = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The folder of a finished run of two ranks, each made once."""
    folder = tmp_path_factory.mktemp("sentences")
    for split, count in (("train", 40), ("validation", 13)):
        write_pairs(folder / f"{split}.jsonl", count)
    write_bert(folder / "bert-tiny")
    done: dict[tuple[str, str], Path] = {}

    def make(kind: str, engine: str) -> Path:
        if (kind, engine) not in done:
            whole = folder / f"{kind}-{engine}"
            write_recipe(folder / f"{whole.name}.yaml", recipe(folder, kind, engine))
            outcome = start(whole, 2)
            assert outcome.code == 0, outcome.output
            done[kind, engine] = whole
        return done[kind, engine]

    return make


def write_pairs(path: Path, count: int) -> None:
    chance = random.Random(path.name)
    with path.open("w") as file:
        for _ in range(count):
            first = chance.choices(WORDS, k=chance.randint(2, 9))
            second = chance.choices(WORDS, k=chance.randint(2, 9))
            row = {"first": " ".join(first), "second": " ".join(second)}
            row |= {"label": int("red" in first), "value": len(set(first) & set(second)) / 4}
            file.write(json.dumps(row) + "\n")


def write_bert(folder: Path) -> None:
    """A BERT without a head, and its tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=280,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=30,
        layer_norm_eps=1e-6,
    )
    BertModel(config).save_pretrained(folder)
    train_pair_tokenizer([" ".join(WORDS)] * 3, 280, "bert").save(folder)


def recipe(folder: Path, kind: str, engine: str) -> dict[str, Any]:
    sentences: dict[str, Any] = {
        "train": [str(folder / "train.jsonl")],
        "validation": [str(folder / "validation.jsonl")],
        "sequence_length": 24,
    }
    model: dict[str, Any] = {
        "architecture": kind,
        "vocab_size": 280,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_layers": 2,
        "num_heads": 2,
    }
    if kind == "bert":
        sentences |= {"text": ["first", "second"], "label": "value"}
        pretrained = str(folder / "bert-tiny")
        model |= {"num_labels": 1, "max_positions": 30, "pretrained": pretrained}
    else:
        sentences |= {"text": ["first"]}
        model |= {"num_labels": 2}
    return {
        "name": kind,
        "task": "text_regression" if kind == "bert" else "text_classification",
        "model": model,
        "sentences": sentences,
        "data": {"directory": str(folder / "prepared")},
        "optim": {"lr": 3e-3, "weight_decay": 0.1, "warmup_steps": 1},
        "decay": {"interval": 3, "towards": "start" if kind == "bert" else "zero"},
        "run": {"steps": 6, "global_batch": 4, "micro_batch": 1, "precision": "float32"},
        "eval": {"every": 3, "micro_batch": 2},
        "checkpoint": {"every": 3},
        "log": {"every": 1, "progress": "lines"},
        **ENGINES[engine],
    }


def start(folder: Path, ranks: int) -> Any:
    recipe_file = folder.parent / f"{folder.name.partition('-on-')[0]}.yaml"
    arguments = ("--config", str(recipe_file), "--output_dir", str(folder))
    return run(ranks, folder.parent, PROGRAM, *arguments)


def test_engines_agree(made):
    zero1, *others = (made("roberta", engine) for engine in ENGINES)
    keys = (("train", "loss"), ("train", "grad_norm"), ("validation", "val_loss"))
    for kind, key in keys:
        for other in others:
            found = [record[key] for record in metrics(other, kind)]
            expected = [record[key] for record in metrics(zero1, kind)]
            assert found == pytest.approx(expected, rel=0, abs=TOLERANCE), key
    for record in metrics(zero1, "validation"):
        correct = record["val_accuracy"] / 100 * 13
        assert correct == pytest.approx(round(correct), abs=1e-9)  # each row counts once


@pytest.mark.parametrize(("kind", "engine"), RUNS)
def test_it_goes_on_bit_for_bit_and_on_one_rank(made, kind, engine):
    whole = made(kind, engine)
    for ranks in (2, 1):
        cut = whole.with_name(f"{whole.name}-on-{ranks}")
        step = "checkpoints/step-00000003"
        shutil.copytree(whole / step, cut / step)
        shutil.copy(whole / "metrics.jsonl", cut)
        outcome = start(cut, ranks)
        assert outcome.code == 0 and "step 3 of 6" in outcome.output, outcome.output
        if ranks == 2:
            assert figures(cut) == figures(whole)
        else:
            ours, theirs = ([r["loss"] for r in metrics(f, "train")] for f in (cut, whole))
            assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE)


def test_a_regression_says_both_correlations(made):
    for record in metrics(made("bert", "zero3"), "validation"):
        assert -100 <= record["val_pearson"] <= 100
        assert -100 <= record["val_spearman"] <= 100


@pytest.mark.parametrize(("kind", "engine"), RUNS)
def test_the_exported_folder_gives_the_same_outputs(made, kind, engine, tmp_path):
    whole = made(kind, engine)
    outcome = run(1, ROOT, "-m", "train", "export", str(whole), "--out", str(tmp_path / "o"))
    assert outcome.code == 0, outcome.output
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "o").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "o")
    trained = find_trained(whole, "", print).load(torch.float32)
    inputs = tokenizer("red tree", "blue house", return_tensors="pt")
    assert ("token_type_ids" in inputs) == (kind == "bert")
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, trained(**inputs).logits)
    if kind == "roberta":
        assert model.config.id2label == {0: "0", 1: "1"}


def test_no_text_comes_from_a_classifier(made):
    outcome = run(
        1, ROOT, "-m", "train", "generate", str(made("roberta", "zero3")), "--prompt", "red"
    )
    assert outcome.code == 2 and "writes no text" in outcome.output
