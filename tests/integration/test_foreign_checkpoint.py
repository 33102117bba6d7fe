"""A checkpoint that would run code is loaded by nothing, though its hashes are right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.foreign import Touch
from train import checkpoint
from train.checkpoint.convert_command import main as convert
from train.checkpoint.manifest import MANIFEST, STATE, facts_of_files
from train.errors import UserError
from train.export.command import export
from train.export.generate import generate


@pytest.fixture(scope="module", params=["model_states.pt", "optim_states.pt", "own_rank_00000.pt"])
def foreign(request, finished, tmp_path_factory) -> tuple[Path, Path]:
    """A run with one checkpoint, one of whose files makes another file; and that file."""
    run = tmp_path_factory.mktemp("foreign") / "run"
    shutil.copytree(finished("python"), run)
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    folder = run / "checkpoints" / "step-00000003"
    (file,) = (folder / STATE).glob(f"*{request.param}")
    content = torch.load(file, weights_only=False)
    torch.save({**content, "more": Touch(run / "ran")}, file)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] |= facts_of_files(folder, [file])
    (folder / MANIFEST).write_text(json.dumps(manifest))
    torch.load(file, weights_only=False)
    assert (run / "ran").exists()  # the file does what it should not
    (run / "ran").unlink()
    return run, run / "ran"


def test_a_run_does_not_go_on_from_it(workplace, foreign):
    run, ran = foreign
    outcome = workplace.run(1, str(run))
    assert outcome.code == 2, outcome.output
    assert "would run code when loaded: it asks for tests.foreign.touch" in outcome.output
    assert not ran.exists()


def test_no_command_loads_it(foreign, tmp_path, capsys):
    run, ran = foreign
    folder = run / "checkpoints" / "step-00000003"
    with pytest.raises(UserError, match="would run code when loaded"):
        export(folder, tmp_path / "out")
    with pytest.raises(UserError, match="would run code when loaded"):
        generate(folder, "a", 1)
    assert convert([str(folder), "--out", str(tmp_path / "universal")]) == 2
    assert "would run code when loaded" in capsys.readouterr().err
    with pytest.raises(UserError, match="none is complete"):
        checkpoint.find("auto", run / "checkpoints", print)
    assert not ran.exists()
