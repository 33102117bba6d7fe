"""Looks at an installed alphadecay from outside the project, in an environment with torch alone.

`python -P installed.py`: the import, the command, and one AlphaDecay on a small net. `make dist`
runs it for the wheel and for the sdist.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
import torch

import alphadecay
from alphadecay import AdamW, AlphaDecay, pl_alpha_hill


def main() -> None:
    """Check all of it; an assertion says what is wrong."""
    version = importlib.metadata.version("alphadecay")
    place = Path(alphadecay.__file__).parent
    assert place.parent == Path(sysconfig.get_paths()["purelib"]), f"imported from {place}"
    assert alphadecay.__version__ == version
    assert importlib.util.find_spec("train") is None, "a package named train was installed"
    for name in ("deepspeed", "rich", "plotly"):
        assert importlib.util.find_spec(name) is None, f"the environment is not empty: {name}"
    command = Path(sysconfig.get_path("scripts")) / "alphadecay"
    assert _run(command, "--version").strip() == version
    _estimate(command)
    _decay()
    print(f"alphadecay {version} works in {sys.prefix}")


def _run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _estimate(command: Path) -> None:
    """Compare the command's alpha with the function's."""
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "weight.npy", weight.numpy())
        told = json.loads(_run(command, "estimate", Path(folder) / "weight.npy", "--json"))
    assert abs(told["alpha"] - pl_alpha_hill(weight)) < 1e-4, told


def _decay() -> None:
    """Take two steps and a refresh."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 32))
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=2)
    for _ in range(2):
        model(torch.randn(8, 32)).square().mean().backward()
        optimizer.step()
        decay.step()
        optimizer.zero_grad()
    assert len(decay.alphas) == 2, decay.alphas
    assert all(0.067 <= value <= 0.5 for value in decay.weight_decays.values())


if __name__ == "__main__":
    main()
