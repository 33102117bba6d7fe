"""Every shipped DeepSpeed configuration starts the program on two ranks, in both precisions, and
trains the same model.
"""

from __future__ import annotations

import math

import pytest

from tests.conftest import ROOT
from tests.integration.program import PROGRAM, metrics, run, write_recipe

NAMES = sorted(path.stem for path in (ROOT / "ds_configs").glob("*.json"))
GRID = [(name, precision) for name in NAMES for precision in ("float32", "bf16")]
QUICK = ("zero2_offload", "bf16")
STEPS = 2


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case == QUICK else pytest.mark.slow, id="-".join(case))
        for case in GRID
    ],
)
def test_it_trains(workplace, tmp_path, case):
    name, precision = case
    steps = workplace.values["run"] | {"steps": STEPS, "precision": precision}
    values = workplace.values | {
        "run": steps,
        "deepspeed": {"config": f"ds_configs/{name}.json"},
        "output_dir": str(tmp_path / "run"),
    }
    path = write_recipe(tmp_path / "recipe.yaml", values)
    outcome = run(2, workplace.folder, PROGRAM, "--config", str(path))
    assert outcome.code == 0, outcome.output
    losses = [line["loss"] for line in metrics(tmp_path / "run", "train")]
    assert (
        len(losses) == STEPS
        and (tmp_path / "run" / "checkpoints" / f"step-{STEPS:08d}" / "manifest.json").is_file()
    )
    # Untrained, so near the loss of a uniform guess over the vocabulary, whatever holds the
    # weights.
    assert losses[0] == pytest.approx(math.log(workplace.values["model"]["vocab_size"]), abs=0.1)
    assert all(math.isfinite(loss) for loss in losses)
