"""What decay.method stands for, and what is refused before a model is built."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_type_hints

import pytest

from alphadecay import AlphaDecayConfig
from train.config import DecayConfig, OptimConfig, Ratio, TrainConfig
from train.config.decay import METHODS
from train.errors import UserError
from train.loop.decay_methods import check_method, spectral_options

CONTROLS = ("inverted", "shuffled", "uniform_at_mean", "fixed_ratio")
NORMS = ("frobenius_norm", "spectral_norm")


def config(method: str, weight_decay: float = 0.1, **decay: Any) -> TrainConfig:
    return dataclasses.replace(
        TrainConfig(),
        decay=DecayConfig(method=method, **decay),
        optim=OptimConfig(weight_decay=weight_decay),
    )


def by(chosen: TrainConfig, name: str = "adam") -> TrainConfig:
    return dataclasses.replace(chosen, optim=dataclasses.replace(chosen.optim, name=name))


def early(chosen: TrainConfig) -> TrainConfig:
    return dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, start_early=True))


def test_every_method_is_somebodys() -> None:
    assert set(get_args(get_type_hints(DecayConfig)["method"])) == set(METHODS)


@pytest.mark.parametrize("method", [m for m, of in METHODS.items() if of.family == "spectral"])
def test_choices_are_the_librarys(method: str) -> None:
    found = AlphaDecayConfig(
        **spectral_options(
            config(method, interval=7, ratios=(Ratio("*", 1.0),) if method == "fixed_ratio" else ())
        )
    )
    assert found.interval == 7
    assert found.control == (method if method in CONTROLS else None)
    assert found.score == (method if method in NORMS else "alpha")
    assert found.method == ("farms" if method == "farms" else "gram")


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (config("awd", weight_decay=0.0), "multiplies optim.weight_decay, which is 0"),
        (config("alphadecay", weight_decay=0.0), "or --decay.method none"),
        (config("uniform", ratios=(Ratio("*", 1.0),)), "does not read it"),
        (config("fixed_ratio"), "ratios"),
        (config("farms", tail="goodness_of_fit"), "farms"),
        (config("alphadecay", estimator="moments", tail="fix_finger"), "moments"),
        (config("spectral_norm", estimator="moments"), "leave method"),
        (config("none", schedule="cosine"), "decay.schedule is cosine, and nothing decays"),
        (config("uniform", weight_decay=0.0, schedule="lr"), "optim.weight_decay 0; leave"),
        (by(config("awd", cautious=True), "sgd"), "an L2 penalty, .* --optim.name sgdw"),
        (config("none", cautious=True), "decay.cautious is set, and nothing decays"),
        (config("lawn", cautious=True), "nothing decays: decay.method is lawn"),
        (config("hyperball", schedule="cosine"), "nothing decays: decay.method is hyperball"),
        (by(config("awd", cautious=True)), "decay.cautious compares .* --optim.name adamw"),
        (config("uniform", drives="lr"), "method uniform measures no alpha"),
        (config("awd", drives="both"), "decay.drives is both, .* awd measures no alpha"),
        (config("alphadecay", weight_decay=0.0, drives="both"), "which is 0"),
        (by(config("alphadecay", schedule="lr")), "penalty of optim.name adam is not lr"),
        (config("lawn", base="auto"), "decay.base is auto, and decay.method is lawn, which decays"),
        (by(config("uniform", base="auto"), "sgdw"), "the rule is of adamw, and optim.name is"),
        (early(config("uniform", base="auto")), "not known before all of it is prepared"),
    ],
)
def test_refused_in_words(chosen: TrainConfig, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_method(chosen)


@pytest.mark.parametrize("estimator", get_args(get_type_hints(DecayConfig)["estimator"]))
def test_the_estimator_is_the_librarys_method(estimator: str) -> None:
    found = AlphaDecayConfig(**spectral_options(config("alphadecay", estimator=estimator)))
    assert found.method == estimator


def test_rates_are_the_librarys_and_need_no_base_decay() -> None:
    chosen = config("shuffled", weight_decay=0.0, drives="lr", lr_s2=3.0, lr_until=0.2)
    check_method(chosen)
    found = AlphaDecayConfig(**spectral_options(chosen))
    assert (found.drives, found.control, found.lr_s1, found.lr_s2) == ("lr", "shuffled", 1.0, 3.0)
    assert (found.lr_ends, found.lr_ramp) == (5.0, 50)
    assert found.lr_until == chosen.run.steps // 5


def test_the_base_of_auto_is_not_yet_zero() -> None:
    check_method(config("alphadecay", weight_decay=0.0, base="auto", schedule="cosine"))


@pytest.mark.parametrize("method", ["none", "lawn", "hyperball"])
def test_no_decay_needs_no_base(method: str) -> None:
    check_method(config(method, weight_decay=0.0))
    assert not METHODS[method].decays


def test_the_base_of_auto_is_of_language_models() -> None:
    pictures = dataclasses.replace(
        by(config("uniform", base="auto"), "adamw"), task="image_classification"
    )
    with pytest.raises(UserError, match="fitted to language models, and task is image_classif"):
        check_method(pictures)
