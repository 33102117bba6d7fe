"""Refresh records as arrays, and what becomes of them on the page."""

import base64
import statistics

import numpy as np
import pytest

from alphadecay.inspect.html.refreshes import evenly, read_refreshes
from alphadecay.inspect.html.report import render
from alphadecay.inspect.run.reader import read_run
from tests.unit.alphadecay.inspect.html.made_run import LLAMA, chart, island, make_run, weight_names
from train.telemetry.metrics import read_metrics

SHORT = ["q", "k", "v", "o", "gate", "up", "down"]


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (6, 5), (1000, 200)])
def test_evenly_keeps_both_ends(count, most):
    indices = evenly(count, most)
    assert (
        indices[0] == 0
        and indices[-1] == count - 1
        and len(set(indices)) == len(indices) == min(count, most)
    )
    gaps = np.diff(indices)
    assert count <= most or gaps.max() - gaps.min() <= 1


def test_the_page_holds_every_refresh_to_the_bit_of_float32(tmp_path):
    folder = make_run(tmp_path / "run")
    held = island(render(read_run(folder)), "refreshes")
    records = read_metrics(folder / "metrics.jsonl", "refresh")
    assert (
        held["steps"] == [0, 4, 8, 12]
        and held["types"] == SHORT
        and held["layers"] == ["0", "1", "2"]
    )
    for quantity, key in (("alpha", "alphas"), ("decay", "weight_decays")):
        values = np.frombuffer(base64.b64decode(held["values"][quantity]), "<f4").reshape(4, 3, 7)
        for refresh, record in enumerate(records):
            for layer in range(3):
                for column, kind in enumerate(LLAMA):
                    assert values[refresh, layer, column] == np.float32(
                        record[key][f"model.layers.{layer}.{kind}.weight"]
                    )


def test_maps_show_the_last_refresh_in_colours_for_all(tmp_path):
    folder = make_run(tmp_path / "run")
    text = render(read_run(folder))
    records = read_metrics(folder / "metrics.jsonl", "refresh")
    for quantity, key in (("alpha", "alphas"), ("decay", "weight_decays")):
        (trace,) = chart(text, f"map-{quantity}")["data"]
        every = [value for record in records for value in record[key].values()]
        assert (trace["zmin"], trace["zmax"]) == pytest.approx((min(every), max(every)), rel=1e-6)
        assert trace["x"] == SHORT and trace["z"][2][0] == pytest.approx(
            records[-1][key]["model.layers.2.self_attn.q_proj.weight"], rel=1e-6
        )


def test_trajectories_are_medians_of_the_layers(tmp_path):
    folder = make_run(tmp_path / "run", layers=5)
    traces = chart(render(read_run(folder)), "lines-decay")["traces"]
    for name, kind in zip(SHORT, LLAMA, strict=True):
        assert traces[name]["x"] == [0, 4, 8, 12]
        expected = [
            statistics.median(
                record["weight_decays"][f"model.layers.{layer}.{kind}.weight"] for layer in range(5)
            )
            for record in read_metrics(folder / "metrics.jsonl", "refresh")
        ]
        assert traces[name]["y"] == pytest.approx(expected, rel=1e-6)


def test_a_module_without_alpha_is_a_hole(tmp_path):
    names = weight_names(2)
    records = [
        {
            "step": step,
            "alphas": dict.fromkeys(names, 2.0 + step),
            "weight_decays": dict.fromkeys(names, 0.1),
        }
        for step in (0, 5)
    ]
    records[1]["alphas"][names[3]] = None
    refreshes = read_refreshes(records)
    assert (
        np.argwhere(np.isnan(refreshes.values["alpha"])).tolist() == [[1, 0, 3]]
        and not np.isnan(refreshes.values["decay"]).any()
    )


def test_gradient_methods_have_decays_alone(tmp_path):
    text = render(read_run(make_run(tmp_path / "run", method="adadecay", alphas=False)))
    assert list(island(text, "refreshes")["values"]) == ["decay"]
    assert {"map-decay", "lines-decay"} <= {figure["id"] for figure in island(text, "figures")}
    assert (
        'id="map-alpha"' not in text
        and "<h2>Weight decay by layer and type</h2>" in text
        and "heavy tail" not in text
    )


def test_one_refresh_has_no_trajectory(tmp_path):
    text = render(read_run(make_run(tmp_path / "run", interval=100)))
    assert (
        'id="map-alpha"' in text and 'id="lines-alpha"' not in text and 'id="refresh"' not in text
    )


def test_a_norm_in_place_of_alpha_is_not_called_alpha(tmp_path):
    text = render(read_run(make_run(tmp_path / "run", method="spectral_norm")))
    assert "<h3>Spectral norm</h3>" in text and "<h3>α</h3>" not in text


def test_very_many_refreshes_are_thinned_and_it_says_so(tmp_path):
    text = render(read_run(make_run(tmp_path / "run", steps=450, interval=1, layers=1)))
    steps = island(text, "refreshes")["steps"]
    assert (len(steps), steps[0], steps[-1]) == (
        200,
        0,
        450,
    ) and "200 of 451 refreshes are here" in text
