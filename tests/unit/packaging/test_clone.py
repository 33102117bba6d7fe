"""The program runs from its clone, whatever the working directory and whatever is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "--help"], "usage: python -m train COMMAND"),
        (["train/pretrain.py", "--help"], "--optim.weight_decay"),
        (["train", "where", "--config", f"{ROOT}/train/recipes/quickstart.yaml"], "quickstart"),
    ],
)
def test_from_another_folder_beside_a_train_of_the_users(
    command: list[str], words: str, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('the train.py of a user ran')")
    script, *arguments = command
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
