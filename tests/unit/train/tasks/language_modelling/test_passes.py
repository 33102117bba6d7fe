"""How often a run reads its text, from the tokens that are prepared."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from train.config import DataConfig, MixtureSource, RunConfig, TrainConfig
from train.data.loading.memmap import FORMAT_VERSION, META_NAME, Meta, SplitCounts
from train.data.preparing.corpora import PreparedCorpus
from train.tasks.language_modelling import passes

TOKENS = 100 * 8 * 32
RUN = TrainConfig(
    run=RunConfig(steps=100, global_batch=8), data=DataConfig(source="files", sequence_length=32)
)


def corpus(folder: Path, tokens: int) -> PreparedCorpus:
    folder.mkdir()
    meta = Meta(FORMAT_VERSION, "uint16", 64, 0, "", "", "", train=SplitCounts(1, tokens, 1))
    (folder / META_NAME).write_text(json.dumps(asdict(meta)))
    return PreparedCorpus("", folder, True)


def read(
    monkeypatch: pytest.MonkeyPatch, config: TrainConfig, *corpora: PreparedCorpus
) -> float | None:
    monkeypatch.setattr(passes, "find_all", lambda data, vocabulary: list(corpora))
    return passes.passes_over_text(config)


def test_one_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, RUN, corpus(tmp_path / "a", TOKENS // 4)) == 4.0


def test_text_that_is_not_read_to_its_end_is_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(monkeypatch, RUN, corpus(tmp_path / "a", 2 * TOKENS)) == 1.0


def test_a_mixture_counts_by_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = (MixtureSource("a", ("a",), 3.0), MixtureSource("b", ("b",), 1.0))
    mixed = replace(RUN, data=replace(RUN.data, mixture=sources))
    corpora = (corpus(tmp_path / "a", TOKENS), corpus(tmp_path / "b", TOKENS // 32))
    # three quarters of the tokens see 0.75 passes, one quarter 8
    expected = pytest.approx(0.75 * 0.75 + 0.25 * 8)
    assert read(monkeypatch, mixed, *corpora) == expected


@pytest.mark.parametrize("folder", [None, Path("data/a")])
def test_text_that_is_not_prepared(folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, RUN, PreparedCorpus("", folder, False)) is None
