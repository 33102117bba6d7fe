"""Spectra and fitted tails against numpy and the library, from a checkpoint's files."""

import hashlib
import math

import numpy as np
import pytest
import torch

from alphadecay import pl_alpha_hill
from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.html.report import render
from alphadecay.inspect.html.spectra import choose, esd, measure
from alphadecay.inspect.html.spectrum_plot import density, histogram, power_law
from alphadecay.inspect.run.reader import read_run
from alphadecay.inspect.sources import StoredTensor
from alphadecay.spectral import Status, estimate
from tests.unit.alphadecay.inspect.html.made_run import (
    chart,
    island,
    make_run,
    weight_names,
    write_checkpoint,
)
from train.telemetry.metrics import read_metrics


def weights(layers: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = {
        name: torch.randn(48, 32 + 16 * place, generator=generator)
        for place, name in enumerate(weight_names(layers))
    }
    # a heavier tail than chance makes
    made["model.layers.1.self_attn.q_proj.weight"] *= torch.linspace(0.1, 3, 48)[:, None]
    return made | {
        "model.norm.weight": torch.ones(48),
        "lm_head.weight": torch.randn(40, 48, generator=generator),
    }


def test_eigenvalues_and_alpha_against_numpy_and_the_library(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    made = weights()
    write_checkpoint(run.folder, made)
    spectra = measure(run, ["*.q_proj.weight"])
    assert spectra.step == 12 and [one.name for one in spectra.esds] == [
        f"model.layers.{i}.self_attn.q_proj.weight" for i in range(3)
    ]
    for one in spectra.esds:
        singular = np.linalg.svd(made[one.name].double().numpy(), compute_uv=False)
        values = np.sort(singular**2)
        half = len(singular) // 2
        x_min = values[-half - 1]
        tail = values[-half:]
        assert one.eigenvalues == pytest.approx(
            values, rel=1e-9
        ) and one.estimate.x_min == pytest.approx(x_min, rel=1e-9)
        assert one.estimate.alpha == pytest.approx(1 + half / np.log(tail / x_min).sum(), rel=1e-9)
        # that is in float32
        assert one.estimate.alpha == pytest.approx(pl_alpha_hill(made[one.name]), rel=1e-5)


def test_the_drawn_densities_are_normalised(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    one = esd("a", torch.randn(200, 300, generator=torch.Generator().manual_seed(0)), run)
    middles, widths, heights = (np.array(values) for values in histogram(one))
    assert float((heights * widths).sum()) == pytest.approx(1.0)
    assert (
        middles[0] - widths[0] / 2 == pytest.approx(one.eigenvalues[0])
        and middles[-1] + widths[-1] / 2 == one.eigenvalues[-1]
    )
    assert np.log(1 + widths / (middles - widths / 2)) == pytest.approx(
        math.log(one.eigenvalues[-1] / one.eigenvalues[0]) / 60
    )
    (start, end), (first, last) = power_law(one)
    # The integral of first · (λ/start)^−α from start on is the share of eigenvalues in the tail.
    assert first * start / (one.estimate.alpha - 1) == pytest.approx(one.estimate.tail_count / 200)
    assert math.log(last / first) / math.log(end / start) == pytest.approx(-one.estimate.alpha)
    assert end == one.eigenvalues[-1] and start == one.estimate.x_min


@pytest.mark.parametrize("method", ["alphadecay", "farms"])
def test_very_small_weights_keep_their_unit(tmp_path, method):
    """The library scales them before it squares them."""
    run = read_run(make_run(tmp_path / "run", method=method))
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    plain = esd("a", weight, run)
    small = esd("a", weight * 2.0**-40, run)
    assert small.eigenvalues == pytest.approx(plain.eigenvalues * 2.0**-80, rel=1e-9, abs=1e-40)
    assert small.estimate.x_min == pytest.approx(plain.estimate.x_min * 2.0**-80, rel=1e-9, abs=0)


@pytest.mark.parametrize(("smallest", "apart"), [(1e-2, 1), (1e-4, 2), (1e-5, 2)])
def test_ticks_of_a_wide_spectrum_stand_apart(tmp_path, smallest, apart):
    """Eigenvalues from smallest² to 1, in decades; no more than eight ticks."""
    weight = torch.diag(torch.logspace(math.log10(smallest), 0, 40))
    assert (
        density(esd("a", weight, read_run(make_run(tmp_path / "run")))).layout.xaxis.dtick == apart
    )


def test_farms_shows_what_farms_fits(tmp_path):
    run = read_run(make_run(tmp_path / "run", method="farms"))
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    one = esd("a", weight, run)
    assert one.estimate.alpha == pytest.approx(
        float(estimate(weight, method="farms", precision=torch.float64).alpha)
    )
    # Two rows and three columns of windows of 32 by 32.
    parts = [weight[i : i + 32, j : j + 32].double().numpy() for i in (0, 32) for j in (0, 32, 64)]
    expected = np.sort(
        np.concatenate([np.linalg.svd(part, compute_uv=False) ** 2 for part in parts])
    )
    assert one.eigenvalues == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_by_default_smallest_median_and_largest_alpha(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    write_checkpoint(run.folder, weights())
    alphas = read_metrics(run.folder / "metrics.jsonl", "refresh")[-1]["alphas"]
    ordered = sorted(alphas, key=alphas.get)
    assert [one.name for one in measure(run).esds] == [ordered[0], ordered[10], ordered[20]]
    text = render(run)
    figure = chart(text, "esd-0")
    alpha = measure(run).esds[0].estimate.alpha
    assert f"<h3>{ordered[0]} (48 × " in text.replace("<wbr>", "") and "step 12" in text
    assert any(f"α = {alpha:.3f}" in (name or "") for name in figure["traces"])
    assert figure["layout"]["xaxis"]["type"] == figure["layout"]["yaxis"]["type"] == "log"


@pytest.mark.parametrize(
    ("patterns", "alphas", "expected"),
    [
        ((), {}, [0, 10, 20]),
        ((), dict.fromkeys(weight_names(3), None), [0, 10, 20]),
        ((), {weight_names(3)[5]: 2.0}, [5]),
        (("*.layers.2.*up*", "lm_head.weight"), {}, [19, 21]),
    ],
)
def test_choices(patterns, alphas, expected):
    names = [*weight_names(3), "lm_head.weight"]
    assert choose(patterns, names, alphas) == [names[i] for i in expected]


def test_patterns_that_cannot_be_meant(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    write_checkpoint(run.folder, weights(layers=4))
    with pytest.raises(
        InspectError, match=r"q_prj.*such as 'model\.layers\.0\.self_attn\.q_proj\.weight'"
    ):
        measure(run, ["model.layers.0.self_attn.q_prj.weight"])
    with pytest.raises(InspectError, match=r"whole names, such as '\*q_proj\*'"):
        measure(run, ["q_proj"])
    with pytest.raises(InspectError, match="matches 29 weights; a report draws 24"):
        measure(run, ["*"])


def test_without_a_checkpoint_the_report_says_why(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    text = render(run)
    assert "no checkpoint yet" in text and not [
        figure for figure in island(text, "figures") if figure["id"].startswith("esd")
    ]


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    write_checkpoint(run.folder, weights(), step=8)
    damaged = next((write_checkpoint(run.folder, weights(), step=12) / "state").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    text = render(run)
    assert "checkpoint of step 8" in text and "step-00000012" in text
    next((run.folder / "checkpoints" / "step-00000008" / "state").iterdir()).unlink()
    assert "no weights could be read" in render(run)


def test_nothing_is_hashed_and_other_weights_are_not_read(tmp_path, monkeypatch):
    run = read_run(make_run(tmp_path / "run"))
    write_checkpoint(run.folder, weights())
    read = []
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed"))
    whole = StoredTensor.read
    monkeypatch.setattr(
        StoredTensor, "read", lambda self, *part: read.append(self) or whole(self, *part)
    )
    assert len(measure(run, ["*.layers.1.*q_proj*"]).esds) == len(read) == 1


def test_weights_that_are_zero_or_not_finite_have_a_label_and_no_tail(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    for value, status in ((0.0, Status.ZERO), (math.nan, Status.NOT_FINITE)):
        one = esd("a", torch.full((16, 16), value), run)
        assert (
            one.estimate.status is status
            and one.eigenvalues.size == 0
            and histogram(one) == ([], [], [])
        )
