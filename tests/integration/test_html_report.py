"""The report of a run of two ranks under ZeRO-3: it agrees with what the run itself says, and draws
its weights.
"""

from __future__ import annotations

import json

import pytest

from alphadecay.inspect.html.spectra import measure
from alphadecay.inspect.html.summary_cards import facts
from alphadecay.inspect.run.reader import read_run
from alphadecay.inspect.run.words import number
from tests.integration.program import STEPS, VOCABULARY
from train.checkpoint.stored_state import read_masters
from train.reporting.command import main


def test_a_real_run(finished, tmp_path):
    run = finished("torchrun")
    assert (
        main(
            [
                str(run),
                "--out",
                str(tmp_path / "report.html"),
                "--modules",
                "*.layers.1.*",
                "lm_head.weight",
            ]
        )
        == 0
    )
    text = (tmp_path / "report.html").read_text().replace("<wbr>", "")
    summary = json.loads((run / "summary.json").read_text())
    said = dict(facts(read_run(run)))
    assert (
        said["Validation perplexity"]
        == f"{number(summary['val_perplexity_first'])} → {number(summary['val_perplexity'])}"
    )
    assert said["The same, as the published code counts"] == number(
        summary["val_perplexity_published"]
    )
    assert said["Device"] == "cpu · 2 ranks · ZeRO-3 · float32" and said["Tokens"] == number(
        summary["tokens"]
    )
    assert f"checkpoint of step {STEPS}" in text and f"lm_head.weight ({VOCABULARY} × 32)" in text


def test_speed_from_the_records_is_that_of_the_summary(finished):
    """The figures of a run under way become those of its summary."""
    run = read_run(finished("torchrun"))
    with_summary = dict(facts(run))
    run.summary["steps"] = -1
    without = dict(facts(run))
    assert (without["Tokens per second"], without["MFU"]) == (
        with_summary["Tokens per second"],
        with_summary["MFU"],
    )


def test_the_spectra_are_of_the_masters(finished):
    run = read_run(finished("torchrun"))
    spectra = measure(run, ["*.down_proj.weight"])
    masters = read_masters(run.folder / "checkpoints" / f"step-{STEPS:08}" / "state")
    assert [one.name for one in spectra.esds] == [
        f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(2)
    ]
    for one in spectra.esds:
        # The trace of the Gram; 1e-12 is float64 summed in another order.
        assert one.eigenvalues.sum() == pytest.approx(
            float((masters[one.name].double() ** 2).sum()), rel=1e-12
        )
