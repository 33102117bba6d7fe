"""The constants of plans are those that were measured, and give the seconds that were."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from alphadecay.inspect.plan.calibrate import LARGEST_SIDE, calibrate, measured_sides
from alphadecay.inspect.plan.machines import CPU, H200, Machine
from alphadecay.inspect.plan.memory import Spread
from alphadecay.inspect.plan.model import model_of_config
from alphadecay.inspect.plan.refresh import plan_refresh
from tests.conftest import ROOT

RESULTS = ROOT / "tests" / "bench" / "results"
REFRESHES = json.loads((RESULTS / "refresh-cpu.json").read_text())["measured"]
# What tests/bench/refresh.py ran, as a config.json says it.
LAYERS = {"toy": (64, 172, 2, 4), "130m": (768, 2048, 12, 12)}


def test_between_sides_and_beyond_them_by_hand() -> None:
    machine = Machine("m", 1e9, {10: 1.0, 1000: 100.0}, 1.0, 1.0, 1.0, "")
    flops = 2 * 100 * 100 * 300 / 1e9
    assert machine.seconds((300, 100)) == pytest.approx(10 + flops)
    assert machine.seconds((100, 300)) == machine.seconds((300, 100))
    assert machine.seconds((5, 5)) == pytest.approx(1 + 2 * 125 / 1e9)
    assert machine.seconds((2000, 2000)) == pytest.approx(800 + 16)


def test_a_cpus_spectra_take_what_was_measured() -> None:
    spectra = json.loads((RESULTS / "spectral-cpu.json").read_text())["spectra"]
    assert len(spectra) > 10
    for row in spectra:
        measured = row["seconds"]["gram_float32"]["median"]
        assert CPU.seconds(tuple(row["shape"])) == pytest.approx(measured, rel=0.15), row["shape"]


def test_an_h200s_are_the_fastest_of_the_ways_that_were_measured() -> None:
    sides = json.loads((RESULTS / "h200-0.1" / "eigensolver.json").read_text())
    assert {str(side) for side in H200.eigenvalues} == set(sides)
    for side, row in sides.items():
        ways = [row[way] for way in ("single_ms", "single_f64_ms", "threads4_per_ms")]
        assert H200.eigenvalues[int(side)] == pytest.approx(min(ways) / 1e3, rel=0.01)
    flops = 2 * 2048**3 / sides["2048"]["gram_ms"] * 1e3
    assert H200.products == pytest.approx(flops, rel=0.01)


@pytest.mark.parametrize("row", REFRESHES, ids=lambda row: f"{row['size']}-{row['ranks']}")
def test_a_planned_refresh_takes_what_a_real_one_took_within_twice(row: dict[str, Any]) -> None:
    hidden, inner, layers, heads = LAYERS[row["size"]]
    config = {
        "model_type": "llama",
        "vocab_size": 64,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }
    model = model_of_config("it", config, "it")
    ranks = row["ranks"]
    spread = Spread(3, ranks, getattr(torch, row["dtype"]).itemsize, 4)
    refresh = plan_refresh(model.modules, ranks, spread, CPU)
    assert len(refresh.modules) == row["modules"]
    # Beside the weights a run counts the table of alphas and the agreement on the decays.
    sent = [rank["sent"] for rank in row["bytes_per_rank"]["alphadecay"]]
    assert [rank.sent for rank in refresh.ranks] == pytest.approx(sent, abs=2 * refresh.table)
    if ranks > 2:  # on the two cores of that machine, ranks had to wait for each other
        return
    measured = row["seconds"]["alphadecay"]["median"]
    assert measured / 2 < refresh.seconds < 2 * measured


def test_a_calibration_measures_the_sides_of_the_model() -> None:
    machine = calibrate([(32, 64), (16, 16), (64, 32)], torch.device("cpu"))
    assert set(machine.eigenvalues) == {16, 32}
    figures = [*machine.eigenvalues.values(), machine.products, machine.training]
    assert all(figure > 0 for figure in figures)
    assert "measured now at sides 16, 32" in machine.source
    assert (machine.link, machine.latency) == (CPU.link, CPU.latency)
    assert "assumed and not measured: 0.64 GB/s a rank, 800 us a collective" in machine.source


def test_few_sides_are_measured_and_none_that_takes_long() -> None:
    many = [(side, 10**6) for side in range(100, 4000, 100)]
    sides = measured_sides(many, LARGEST_SIDE["cpu"])
    assert len(sides) == 4 and sides[0] == 100 and sides[-1] == LARGEST_SIDE["cpu"]
    assert measured_sides([(7, 9), (9, 7), (5, 5)], 2048) == [5, 7]
