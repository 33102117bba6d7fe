"""Measures `alphadecay analyze` against weightwatcher on the same folder: seconds and peak memory.

Each run is a process of its own, from its start to its end, with as many threads as it takes by
itself; the arms take turns in rotating order, and a ratio is taken repeat by repeat. The folders
hold the layers of a model of GPT-2 small's shape and of one of 350M, random, without embeddings and
head, of which weightwatcher cannot leave out one and the other is none of AlphaDecay's weights.

  weightwatcher   its own reader of the folder, its defaults: alpha by a search of the cut-off;
  searched        alphadecay, with the cut-off searched as weightwatcher does: --tail
                  goodness_of_fit, so that alpha has the same definition;
  alphadecay      alphadecay as it is: the tail begins at the median.

Of GPT-2's fused c_attn weightwatcher makes one matrix, alphadecay the three that it holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from safetensors.torch import save_file

from tests.bench.common import ROOT, finish, machine, new_parser, rotated, spread

ARMS = ("weightwatcher", "searched", "alphadecay")
TARGET = 5.0  # times as fast as weightwatcher, at the least
DEADLINE = 3600
# Not getrusage: a child's begins with what its parent had.
_MEMORY = (
    "status = open('/proc/self/status').read()\n"
    "print(status.partition('VmHWM:')[2].split()[0], file=sys.stderr)\n"
)
_PROGRAMS = {
    "weightwatcher": (
        "import logging, sys, warnings; warnings.simplefilter('ignore')\n"
        "import weightwatcher; logging.disable(logging.CRITICAL)\n"
        "table = weightwatcher.WeightWatcher(model=sys.argv[1]).analyze()\n"
        "print(len(table))\n"
    ),
    "searched": (
        "import sys, alphadecay\n"
        "print(len(alphadecay.analyze(sys.argv[1], tail='goodness_of_fit')))\n"
    ),
    "alphadecay": "import sys, alphadecay\nprint(len(alphadecay.analyze(sys.argv[1])))\n",
}


def gpt2_small() -> dict[str, torch.Tensor]:
    """Return the weights and biases of twelve layers of width 768, [inputs, outputs]."""
    shapes = {
        "attn.c_attn": (768, 2304),
        "attn.c_proj": (768, 768),
        "mlp.c_fc": (768, 3072),
        "mlp.c_proj": (3072, 768),
    }
    tensors = {}
    for layer in range(12):
        for name, shape in shapes.items():
            tensors[f"h.{layer}.{name}.weight"] = 0.02 * torch.randn(shape)
            tensors[f"h.{layer}.{name}.bias"] = torch.zeros(shape[1])
    return tensors


def llama_350m() -> dict[str, torch.Tensor]:
    """Return the weights of 24 layers of width 1024."""
    square = dict.fromkeys(("q", "k", "v", "o"), (1024, 1024))
    tensors = {}
    for layer in range(24):
        before = f"model.layers.{layer}"
        for kind, shape in square.items():
            tensors[f"{before}.self_attn.{kind}_proj.weight"] = 0.02 * torch.randn(shape)
        for kind, shape in (("gate", (2736, 1024)), ("up", (2736, 1024)), ("down", (1024, 2736))):
            tensors[f"{before}.mlp.{kind}_proj.weight"] = 0.02 * torch.randn(shape)
    return tensors


FOLDERS = {"gpt2-small": gpt2_small, "350m": llama_350m}


def run_arm(arm: str, folder: Path) -> dict[str, float]:
    """Run one arm, and return its seconds, its peak of memory in MB and its number of weights."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    environment.pop("OMP_NUM_THREADS", None)  # of a test run, not of a user
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAMS[arm] + _MEMORY, str(folder)],
        env=environment,
        text=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{arm} failed: {done.stderr[-2000:]}")
    return {
        "seconds": seconds,
        "megabytes": int(done.stderr.split()[-1]) / 1000,
        "weights": int(done.stdout.split()[-1]),
    }


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Measure the arms on one folder."""
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        save_file(FOLDERS[name](), Path(folder) / "model.safetensors")
        for repeat in range(repeats):
            for arm in rotated(ARMS, repeat):
                runs[arm].append(run_arm(arm, Path(folder)))
                print(f"{name} {arm}: {json.dumps(runs[arm][-1])}", flush=True)
    found: dict[str, Any] = {}
    for arm in ARMS:
        seconds = [run["seconds"] for run in runs[arm]]
        theirs = [run["seconds"] for run in runs["weightwatcher"]]
        ratios = [there / here for here, there in zip(seconds, theirs, strict=True)]
        found[arm] = {
            "weights": runs[arm][0]["weights"],
            "seconds": spread(seconds),
            "megabytes": spread([run["megabytes"] for run in runs[arm]]),
            "times_as_fast": spread(ratios),
        }
    return found


def met(results: dict[str, Any]) -> list[bool]:
    """Say of each target whether it is met, and print it."""
    verdicts = []
    for name, arms in results.items():
        theirs = arms["weightwatcher"]["megabytes"]["median"]
        for arm in ("searched", "alphadecay"):
            faster = arms[arm]["times_as_fast"]["median"]
            memory = arms[arm]["megabytes"]["median"]
            verdicts.append(memory < theirs)
            target = ""
            if arm == "alphadecay":  # the command as it is
                verdicts.append(faster >= TARGET)
                target = f" (target {TARGET:g})"
            print(
                f"{name} {arm}: {faster:.1f} times as fast{target}, {memory:.0f} MB of "
                f"weightwatcher's {theirs:.0f}"
            )
    return verdicts


def main() -> int:
    """Measure, print and write."""
    parser = new_parser(__doc__, repeats=3)
    parser.add_argument("--folder", nargs="+", choices=tuple(FOLDERS), default=list(FOLDERS))
    options = parser.parse_args()
    results = {name: measure(name, options.repeats) for name in options.folder}
    held = {"machine": machine(), "repeats": options.repeats, "folders": results}
    return finish(options, held, met(results))


if __name__ == "__main__":
    sys.exit(main())
