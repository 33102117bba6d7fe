"""Times whole runs by train/pretrain.py at the paper's sizes: tokens/s, MFU, memory, refreshes.

They run on the devices that are there. Each size is trained for a few steps by each method, one
after the other, and again in the opposite order. Tokens per second and MFU are medians over the
training lines after the first two; MFU is stated against the peak that metrics.jsonl names. The
corpus is the running Python's own library: the text does not matter here. `refresh_share` is what
AlphaDecay's refreshes take of a run with one in 500 steps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from tests.bench.common import ROOT, about, finish, new_parser, spread
from train.config.run_folder import METRICS, SUMMARY
from train.experiments.arguments import overrides_of
from train.telemetry.metrics import read_metrics
from train.telemetry.summary import read_summary

METHODS = ("uniform", "alphadecay")
PAPERS_INTERVAL = 500
WARM_UP = 2  # training lines
FACTS = (
    "device",
    "precision",
    "zero_stage",
    "peak_tflops",
    "peak_source",
    "memory",
    "model_parameters",
)


def run(recipe: str, method: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train once, and return the figures of the run."""
    arguments = {
        "config": f"train/recipes/{recipe}.yaml",
        "decay.method": method,
        "decay.interval": options.steps // 2,
        "run.steps": options.steps,
        "optim.warmup_steps": 1,
        "eval.every": options.steps,
        "eval.tokens": 65536,
        "checkpoint.every": 0,
        "log.every": 1,
        "log.progress": "off",
        "data.source": "stdlib",
        "data.tokenizer": "",
        "data.max_documents": 0,
        "data.directory": options.data,
        "output_dir": str(folder),
        "resume": "never",
    }
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(options.ranks),
        "train/pretrain.py",
    ]
    arguments |= overrides_of(options.overrides)
    words = [f"--{key}={value}" for key, value in arguments.items()]
    subprocess.run([*command, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    lines = read_metrics(folder / METRICS, "train")[WARM_UP:]
    refreshes = [record["refresh_seconds"] for record in read_metrics(folder / METRICS, "refresh")]
    summary = read_summary(folder / SUMMARY) or {}
    return {
        "tokens_per_second": statistics.median(line["tokens_per_second"] for line in lines),
        "mfu": statistics.median(line["mfu"] for line in lines),
        "refresh_seconds": refreshes[1:],  # the first, at the start, also allocates
        **{key: summary.get(key) for key in FACTS},
    }


def bench(recipe: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run every method `repeats` times, in turn."""
    done: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for repeat in range(options.repeats):
        for method in METHODS[:: -1 if repeat % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                figures = run(recipe, method, options, Path(folder))
            done[method].append(figures)
            print(
                f"{recipe} {method}: {figures['tokens_per_second']:,.0f} tokens/s, "
                f"{figures['mfu']:.1%} MFU",
                flush=True,
            )
    seconds = [second for one in done["alphadecay"] for second in one["refresh_seconds"]]
    speeds = {method: [one["tokens_per_second"] for one in runs] for method, runs in done.items()}
    ratios = [
        ours / theirs for ours, theirs in zip(speeds["alphadecay"], speeds["uniform"], strict=True)
    ]
    last = done["alphadecay"][-1]
    per_step = options.tokens_per_step / statistics.median(speeds["alphadecay"])
    return {
        "recipe": recipe,
        **{key: last[key] for key in FACTS},
        "tokens_per_second": {method: spread(values) for method, values in speeds.items()},
        "mfu": {method: spread([one["mfu"] for one in runs]) for method, runs in done.items()},
        "alphadecay_over_uniform": spread(ratios),
        "refresh_seconds": spread(seconds),
        "refresh_share": statistics.median(seconds) / (PAPERS_INTERVAL * per_step),
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__, 2)
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=["llama_60m", "llama_350m", "llama_1b"],
        help="default: 60M, 350M and 1B",
    )
    parser.add_argument(
        "--ranks",
        type=int,
        default=max(1, torch.cuda.device_count()),
        help="default: one for each GPU",
    )
    parser.add_argument("--steps", type=int, default=20, help="of each run (default 20)")
    parser.add_argument("--data", default="data/bench", help="folder for the prepared corpus")
    parser.add_argument(
        "--tokens-per-step",
        type=int,
        default=512 * 256,
        help="of the recipe, for refresh_share (default the paper's)",
    )
    parser.add_argument(
        "overrides", nargs="*", help="after --: further overrides of train/pretrain.py"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    options = parse(arguments)
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
    results = {
        **about(__doc__, options, "ranks", "steps"),
        "runs": [],
    }
    if torch.cuda.is_available():
        results["machine"] |= {
            "gpu": torch.cuda.get_device_name(),
            "backend": "nccl",
            "cuda": torch.version.cuda,
        }
    for recipe in options.recipes:
        results["runs"].append(bench(recipe, options))
    return finish(options, results, [])


if __name__ == "__main__":
    sys.exit(main())
