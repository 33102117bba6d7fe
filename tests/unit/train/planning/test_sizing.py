"""The sizing table: its memory against the dry run's, its hours, and the command."""

from __future__ import annotations

import re

import pytest

from train.config.command_line import load_config
from train.planning import sizing
from train.planning.device import GB, named_device
from train.planning.dry_run import dry_run
from train.planning.sizes import Size


@pytest.mark.parametrize(
    ("model", "ranks", "card"), [("60m", 8, "h100"), ("350m", 1, "rtx-4090"), ("1b", 1, "24gb")]
)
def test_it_is_what_the_dry_run_says(model: str, ranks: int, card: str) -> None:
    recipe = ["--config", f"llama_{model}", *sizing.AS_ON_A_GPU]
    device = named_device(card)
    found = dry_run(load_config(recipe), ranks, device)
    report = "\n".join(line for block in found.details for line in block)
    fit = sizing.find_fit(model, ranks, device.name, device.memory)
    assert fit is not None and fit.line in report
    [told] = re.findall(r"largest sum\s+([\d.]+) GB", report)
    assert float(told) == pytest.approx(fit.memory.peak / GB, abs=5e-4)  # printed to a thousandth


def test_hours_by_hand() -> None:
    # 60M: 8 layers of 4·512² + 3·512·1376, a head of 512 x 32 000, attention over 256 keys; six
    # FLOPs a weight; 10 000 steps of 512 x 256 tokens on H100s of 989.4 TFLOP/s.
    weights = 8 * (4 * 512**2 + 3 * 512 * 1376) + 512 * 32000
    flops = 6 * (weights + 8 * 2 * 512 * 256) * 10_000 * 512 * 256
    assert sizing.hours("60m", 8, "H100", 0.5) == pytest.approx(flops / 8 / 0.5 / 989.4e12 / 3600)


def test_a_line_a_recipe_card_and_number_of_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    run = sizing.Run("60m", 8, "H100", Size("ds_configs/zero1.json", 64))
    assert sizing.main(["--mfu", "0.2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    measured = list(sizing.table(0.2, {run: 0.25}))
    assert len(printed) == 2 + len(sizing.MODELS) * len(sizing.GPUS) * len(sizing.CARDS)
    [(plain, other)] = [pair for pair in zip(printed, measured, strict=True) if pair[0] != pair[1]]
    head = "| 60M | 8 | 80 GB | `ds_configs/zero1.json` | 64 | 5.8 |"
    assert plain == f"{head} 20% assumed | {sizing.hours('60m', 8, 'H100', 0.2):.2g} |"
    assert other == f"{head} 25% measured | {sizing.hours('60m', 8, 'H100', 0.25):.2g} |"
    assert sum(line.endswith("| – | the CPUs decide |") for line in printed) == 1
