"""Looks at an installed alphadecay with what it asks for, from outside the project.

`python -P installed_whole.py`: each command that reads a model, with its page. `make dist` runs it
for the wheel and for the sdist.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import torch

import alphadecay

WEIGHT = "layers.0.mlp.up_proj.weight"


def main() -> None:
    """Check all of it; an assertion says what is wrong."""
    place = Path(alphadecay.__file__).parent
    assert place.parent == Path(sysconfig.get_paths()["purelib"]), f"imported from {place}"
    for name in ("transformers", "safetensors", "deepspeed"):
        assert importlib.util.find_spec(name) is None, f"{name} is more than it asks for"
    with tempfile.TemporaryDirectory() as folder:
        _inspect(Path(folder))
    print(f"the commands of alphadecay {alphadecay.__version__} work in {sys.prefix}")


def _inspect(folder: Path) -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 48)
    torch.save({WEIGHT: weight}, folder / "one.pt")
    torch.save({WEIGHT: weight + 0.1 * torch.randn(64, 48)}, folder / "two.pt")
    page = folder / "page.html"
    _run("analyze", folder / "one.pt", "--json", folder / "one.json", "--html", page)
    [row] = json.loads((folder / "one.json").read_text())["weights"]
    assert abs(row["alpha"] - alphadecay.pl_alpha_hill(weight)) < 1e-6, row
    assert "plotly" in page.read_text()
    assert WEIGHT in _run("explain", folder / "one.pt", "up_proj", "--html", page)
    assert WEIGHT in _run("diff", folder / "one.pt", folder / "two.pt", "--html", page)


def _run(*words: object) -> str:
    command = Path(sysconfig.get_path("scripts")) / "alphadecay"
    done = subprocess.run(
        [str(word) for word in (command, *words)], text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


if __name__ == "__main__":
    main()
