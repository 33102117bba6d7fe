"""python -m train report, as it is typed."""

import os
import stat
import subprocess
import sys

import pytest
import torch

from alphadecay.cli import main as library_main
from alphadecay.inspect.html import write
from tests.conftest import ROOT
from tests.unit.alphadecay.inspect.html.made_run import (
    island,
    make_run,
    weight_names,
    write_checkpoint,
)
from train.config import TrainConfig
from train.config.command_line import dump_config
from train.reporting.command import main


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(
        '{"kind": "train", "step": 1, "loss": 3.5, "tokens": 10}\n'
    )
    (folder / "config.yaml").write_text(dump_config(TrainConfig(name="a run")))
    return folder


def test_it_writes_beside_the_run_and_says_so(run, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"{run / 'report.html'}: 4.")
    assert (run / "report.html").read_text().startswith("<!DOCTYPE html>") and not list(
        run.glob("*.tmp")
    )


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_others_may_read_it_as_the_umask_says(run, mask, mode):
    before = os.umask(mask)
    try:
        assert main([str(run)]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((run / "report.html").stat().st_mode) == mode


def test_spectra_need_no_transformers(tmp_path):
    """A process of its own: this one may have it imported."""
    folder = make_run(tmp_path / "run")
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(48, 64, generator=generator) for name in weight_names(3)}
    write_checkpoint(folder, weights)
    program = (
        "import sys\n"
        "from train.reporting.command import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert not {'transformers', 'sentencepiece', 'datasets'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    figures = island((folder / "report.html").read_text(), "figures")
    assert [figure["id"] for figure in figures if figure["id"].startswith("esd")] == [
        "esd-0",
        "esd-1",
        "esd-2",
    ]


def test_it_writes_where_it_is_told_and_replaces(run, tmp_path):
    out = tmp_path / "deep" / "a.html"
    assert main([str(run), "--out", str(out)]) == 0
    before = out.read_bytes()
    # the same run, the same report
    assert main([str(run), "--out", str(out)]) == 0 and out.read_bytes() == before
    assert not (run / "report.html").exists()


def test_the_librarys_command_writes_the_same_page(run, tmp_path, capsys):
    assert main([str(run)]) == 0
    assert library_main(["report", str(run), "--out", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_bytes() == (run / "report.html").read_bytes()
    assert library_main(["report", str(tmp_path)]) == 2
    assert "has no metrics.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["missing", ""])
def test_no_run_there(tmp_path, capsys, what):
    assert main([str(tmp_path / what)]) == 2
    assert (
        "has no metrics.jsonl; name the folder of a run that has begun" in capsys.readouterr().err
    )


def test_a_place_that_cannot_be_written(run, capsys):
    assert main([str(run), "--out", str(run / "config.yaml" / "a.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_without_plotly_it_says_what_to_install(run, capsys, monkeypatch):
    monkeypatch.setattr(write, "find_spec", lambda name: None if name == "plotly" else object())
    assert main([str(run)]) == 2
    assert "pip install plotly" in capsys.readouterr().err and not (run / "report.html").exists()


def test_help_needs_no_plotly(capsys):
    loaded = "plotly" in sys.modules
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--modules PATTERN" in capsys.readouterr().out and ("plotly" in sys.modules) == loaded
