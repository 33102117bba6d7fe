"""What the dry run says of a corpus."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from train.config import DataConfig, TrainConfig
from train.data.preparing.corpora import PreparedCorpus
from train.tasks.language_modelling.data_plan import data_lines


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DataConfig(), "from allenai/c4, the newest revision: data.revision pins one"),
        (DataConfig(revision="abc"), "from allenai/c4 at revision abc"),
        (DataConfig(repository="/"), "from the copy of allenai/c4 in /"),
    ],
)
def test_where_c4_comes_from(data, said):
    assert list(data_lines(TrainConfig(data=data), []))[1:] == [f"  {said}"]


def test_other_sources_are_not_on_the_hub():
    assert len(list(data_lines(TrainConfig(data=DataConfig(source="stdlib")), []))) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DataConfig(), "the validation text and some 16,777,216 tokens"),
        (DataConfig(source="stdlib"), "some 100,000,000 tokens"),
        (DataConfig(source="stdlib", validation_fraction=0.4), "some 16,777,216 tokens"),
    ],
)
def test_when_a_run_begins_early(data, said):
    early = dataclasses.replace(data, start_early=True)
    coming = [PreparedCorpus("", Path("data/x"), False)]
    *_, order, corpus = data_lines(TrainConfig(data=early), coming)
    assert order == "  shuffled in blocks of 65,536 rows (data.start_early)"
    assert f"data/x is not prepared yet: the run begins after {said}, and a process" in corpus
    *_, corpus = data_lines(TrainConfig(data=data), coming)
    assert "is not prepared yet: the run does it first" in corpus
