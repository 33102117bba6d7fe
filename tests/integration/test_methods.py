"""Each method as a run of the program: it ends, and its refresh lines say what the method is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.integration.program import metrics

ETA = 0.1


def refreshes(folder: Path) -> list[dict[str, float]]:
    return [record["weight_decays"] for record in metrics(folder, "refresh")]


def awd(found: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    assert set(found[0].values()) == {ETA}  # before the first gradient
    later = [set(decays.values()) for decays in found[1:]]
    assert all(len(values) == 1 for values in later) and {ETA} not in later


def adadecay(found: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    assert set(found[0].values()) == {ETA}
    assert len(set(found[-1].values())) > 10
    assert all(0 <= decay <= 2 * ETA for decay in found[-1].values())


def inverted(found: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    low = min(plain[0].values())
    high = max(plain[0].values())
    assert all(
        math.isclose(found[0][name], low + high - decay, rel_tol=1e-6)
        for name, decay in plain[0].items()
    )


def shuffled(found: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    assert sorted(found[0].values()) == sorted(plain[0].values()) and found[0] != plain[0]


def uniform_at_mean(found: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    (value,) = set(found[0].values())
    assert min(plain[0].values()) < value < max(plain[0].values())


def fixed_ratio(found: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    assert {name: round(decay / ETA, 9) for name, decay in found[-1].items()} == {
        n: 3.0 if "mlp" in n else 0.5 for n in plain[0]
    }


def farms(found: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    assert found[0] != plain[0] and found[0].keys() == plain[0].keys()


def by_element(found: list[dict[str, float]], plain: list[dict[str, float]]) -> None:
    assert all(0 <= decay <= 2 * ETA for decay in found[-1].values())


SLOW = pytest.mark.slow
CASES = [
    pytest.param("awd", awd, (), 2),
    pytest.param("shuffled", shuffled, (), 1),
    pytest.param("adadecay", adadecay, (), 2, marks=SLOW),
    pytest.param("adadecay_parameters", by_element, (), 2, marks=SLOW),
    pytest.param("inverted", inverted, (), 1, marks=SLOW),
    pytest.param("uniform_at_mean", uniform_at_mean, (), 1, marks=SLOW),
    pytest.param(
        "fixed_ratio",
        fixed_ratio,
        ("--decay.ratios", '[{modules: "*mlp*", ratio: 3}, {modules: "*", ratio: 0.5}]'),
        1,
        marks=SLOW,
    ),
    pytest.param("farms", farms, (), 1, marks=SLOW),
]


@pytest.mark.parametrize(("method", "holds", "more", "ranks"), CASES)
def test_a_run_by_each_method(
    workplace,
    finished,
    method: str,
    holds: Callable[..., None],
    more: tuple[str, ...],
    ranks: int,
) -> None:
    outcome = workplace.run(ranks, f"method-{method}", "--decay.method", method, *more)
    assert outcome.code == 0, outcome.output
    folder = workplace.folder / f"method-{method}"
    holds(refreshes(folder), refreshes(finished("python")))
    assert [record["step"] for record in metrics(folder, "train")] == [
        record["step"] for record in metrics(finished("python"), "train")
    ]


@pytest.mark.parametrize("method", ["lawn", pytest.param("hyperball", marks=SLOW)])
def test_a_run_that_holds_norms(workplace, finished, method: str) -> None:
    outcome = workplace.run(1, f"method-{method}", "--decay.method", method)
    assert outcome.code == 0, outcome.output
    folder = workplace.folder / f"method-{method}"
    assert refreshes(folder) == []
    losses = [record["loss"] for record in metrics(folder, "train")]
    plain = [record["loss"] for record in metrics(finished("python"), "train")]
    assert len(losses) == len(plain) and losses[-1] != plain[-1]


def test_a_base_decay_by_auto_is_kept_with_other_steps(workplace) -> None:
    auto = ("--optim.name", "adamw", "--decay.base", "auto")
    first = workplace.run(1, "base-auto", *auto)
    assert first.code == 0, first.output
    (said,) = re.findall(r"the base decay is (\S+), the root of", first.output)
    folder = workplace.folder / "base-auto"
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert kept["optim"]["weight_decay"] == float(said) != ETA
    again = workplace.run(1, "base-auto", *auto, "--run.steps", "9")
    assert again.code == 0, again.output
    assert f"; the run was begun with {said} and keeps it" in again.output
    assert metrics(folder, "train")[-1]["step"] == 9
