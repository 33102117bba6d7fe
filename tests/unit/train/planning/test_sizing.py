"""The sizing table: its memory against the dry run's, its choices, and the page that shows it."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from train.config.command_line import load_config
from train.planning import sizing
from train.planning.dry_run import dry_run


@pytest.mark.parametrize(
    ("model", "ranks", "ds_config", "micro_batch"),
    [("60m", 8, "zero1", 64), ("350m", 64, "zero3", 8), ("1b", 1, "zero2_offload", 128)],
)
def test_memory_is_the_dry_runs_largest_sum(
    model: str, ranks: int, ds_config: str, micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    recipe = f"train/recipes/llama_{model}.yaml"
    overrides = ["--run.precision", "bf16", "--run.micro_batch", str(micro_batch)]
    files = ["--deepspeed.config", f"ds_configs/{ds_config}.json"]
    found = dry_run(load_config(["--config", recipe, *overrides, *files]), ranks)
    report = "\n".join(line for block in found.details for line in block)
    [told] = re.findall(r"largest sum\s+([\d.]+) GB", report)
    memory = sizing.needed(model, ranks, ds_config, micro_batch)
    assert float(told) == pytest.approx(memory / 1e9, abs=5e-4)  # printed to a thousandth


@pytest.mark.parametrize("capacity", [8e9, 24e9, 80e9])
def test_what_fits_leaves_a_fifth_and_the_next_larger_does_not(capacity: float) -> None:
    for ranks in (1, 8):
        fit = sizing.find_fit("350m", ranks, capacity)
        assert fit is not None
        assert fit.memory <= 0.8 * capacity
        if fit.micro_batch * ranks < 512:
            more = sizing.needed("350m", ranks, fit.ds_config, 2 * fit.micro_batch)
            assert more > 0.8 * capacity


def test_a_further_stage_only_where_the_nearer_has_too_few_rows() -> None:
    assert sizing.find_fit("350m", 8, 80e9).ds_config == "zero1"  # type: ignore[union-attr]
    assert sizing.find_fit("1b", 1, 24e9).ds_config == "zero2_offload"  # type: ignore[union-attr]
    assert sizing.find_fit("1b", 1, 1e9) is None


def test_hours_by_hand() -> None:
    # 60M: 8 layers of 4·512² + 3·512·1376, a head of 512 x 32 000, attention over 256 keys; six
    # FLOPs a weight; 10 000 steps of 512 x 256 tokens on H100s of 989.4 TFLOP/s.
    weights = 8 * (4 * 512**2 + 3 * 512 * 1376) + 512 * 32000
    flops = 6 * (weights + 8 * 2 * 512 * 256) * 10_000 * 512 * 256
    assert sizing.hours("60m", 8, "H100", 0.5) == pytest.approx(flops / 8 / 0.5 / 989.4e12 / 3600)


def test_the_page_shows_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "sizing.md").read_text().splitlines()
    shown = [line for line in page if line.startswith("| ")]
    printed = [line for line in sizing.table() if line.startswith("| ")]
    assert len(printed) == 1 + len(sizing.MODELS) * len(sizing.GPUS) * len(sizing.CARDS)
    assert shown == printed
