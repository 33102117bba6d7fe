"""Times the program from the command to the end of its first step, without compiling.

The model is built at its size and the step is small: one row a rank. The corpus is the running
Python's own library, prepared before the clock starts. Arms take turns: this checkout and, with
--other, another one of the same project; ratios are this ÷ the other, turn by turn.

`command` is the wall time from the command to the first step of the slowest rank, the validation
before it left out; `cpu` is the CPU time of all processes, the launcher's too, which other work on
the machine disturbs less. The parts are rank 0's, wall and process time: until_imported (Python and
what the program imports first), process_group, data, model (with transformers' imports), engine
(DeepSpeed), first_refresh; the rest of `whole` is the step itself and what lies between.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from tests.bench.common import ROOT, about, finish, new_parser, spread
from tests.bench.corpus import DOCUMENTS, small_tokenizer
from tests.integration.program import free_port

RANK = str(Path(__file__).with_name("startup_rank.py"))
LAUNCHERS = ("python", "torchrun", "deepspeed")


def program_arguments(
    checkout: Path, recipe: str, ranks: int, data: Path, folder: Path
) -> list[str]:
    """Return the words of a run that takes one small step, on rows that its checkout prepares."""
    values: dict[str, Any] = {
        "config": recipe,
        "run.steps": 1,
        "run.global_batch": ranks,
        "run.micro_batch": 1,
        "model.compile": "false",
        "optim.warmup_steps": 0,
        "eval.tokens": 1,
        "eval.micro_batch": 1,
        "checkpoint.every": 0,
        "log.progress": "off",
        "data.source": "stdlib",
        "data.max_documents": DOCUMENTS,
        "data.sequence_length": 128,
        "data.directory": data / f"rows-{checkout.name}",
        "data.tokenizer": small_tokenizer(data),
        "output_dir": folder,
        "resume": "never",
    }
    return [f"--{key}={value}" for key, value in values.items()]


def command(launcher: str, ranks: int) -> list[list[str]]:
    """Return the commands that start the ranks, without the program's own words."""
    if launcher == "python":
        return [[sys.executable]] * ranks
    here = Path(sys.executable).parent
    if launcher == "torchrun":
        options = ["--standalone", "--nproc-per-node", str(ranks)]
        return [[sys.executable, "-m", "torch.distributed.run", *options]]
    return [[str(here / "deepspeed"), "--num_gpus", str(ranks), "--log_level", "error"]]


def start(
    checkout: Path, launcher: str, ranks: int, words: list[str], out: Path
) -> tuple[list[dict[str, Any]], float]:
    """Start the program and wait; return what each rank wrote, and the CPU seconds of all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = dict(os.environ, PYTHONPATH=_path(checkout))
    environment["STARTUP_BENCH_BEGAN"] = f"{time.time()}"
    place = {"WORLD_SIZE": f"{ranks}", "LOCAL_WORLD_SIZE": f"{ranks}", "MASTER_ADDR": "127.0.0.1"}
    place["MASTER_PORT"] = f"{free_port()}"
    processes = []
    for rank, launched in enumerate(command(launcher, ranks)):
        mine = {}
        if launcher == "python":
            mine = place | {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"}
        arguments = [*launched, RANK, str(checkout), str(out), *words]
        processes.append(
            subprocess.Popen(arguments, env=environment | mine, stdout=subprocess.DEVNULL)
        )
    codes = [process.wait() for process in processes]
    written = sorted(out.glob("*.json"))
    if len(written) != ranks:
        raise RuntimeError(f"{len(written)} of {ranks} ranks came to their first step: {codes}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [json.loads(path.read_text()) for path in written], cpu


def timed(checkout: Path, launcher: str, ranks: int, recipe: str, data: Path) -> dict[str, Any]:
    """Start once, and return the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        words = program_arguments(checkout, recipe, ranks, data, out / "run")
        found, cpu = start(checkout, launcher, ranks, words, out)
    return {
        "command": max(one["whole"]["wall"] - one["evaluation"]["wall"] for one in found),
        "cpu": cpu - sum(one["evaluation"]["process"] for one in found),
        "parts": found[0],
    }


def prepare(checkout: Path, recipe: str, data: Path) -> None:
    """Have a checkout prepare its rows: another one may write them in another form."""
    words = program_arguments(checkout, recipe, 1, data, data / "run")
    command = [sys.executable, "-m", "train", "prepare", *words]
    environment = dict(os.environ, PYTHONPATH=_path(checkout))
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)


def _path(checkout: Path) -> str:
    """Return where Python looks for modules: in the checkout first."""
    return os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))


def checkouts(options: argparse.Namespace) -> dict[str, Path]:
    """Return the arms."""
    return {"this": ROOT} | ({"other": options.other.resolve()} if options.other else {})


def bench(recipe: str, launcher: str, ranks: int, options: argparse.Namespace) -> dict[str, Any]:
    """Start every arm `repeats` times, in turn, and print the medians."""
    arms = checkouts(options)
    times: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for repeat in range(options.repeats):
        for name in list(arms)[:: -1 if repeat % 2 else 1]:
            times[name].append(timed(arms[name], launcher, ranks, recipe, options.data.resolve()))
    row: dict[str, Any] = {"recipe": recipe, "launcher": launcher, "ranks": ranks}
    row["seconds"] = {
        name: {clock: spread([one[clock] for one in runs]) for clock in ("command", "cpu")}
        for name, runs in times.items()
    }
    row["parts"] = {name: medians([one["parts"] for one in runs]) for name, runs in times.items()}
    if "other" in times:
        pairs = list(zip(times["this"], times["other"], strict=True))
        row["this_over_other"] = {
            clock: spread([this[clock] / other[clock] for this, other in pairs])
            for clock in ("command", "cpu")
        }
    print_row(row)
    return row


def medians(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the median of each part by each clock."""
    return {
        part: {clock: statistics.median(run[part][clock] for run in runs) for clock in clocks}
        for part, clocks in runs[0].items()
    }


def print_row(row: dict[str, Any]) -> None:
    head = f"{row['recipe']} {row['launcher']} {row['ranks']} ranks"
    for name, clocks in row["seconds"].items():
        print(
            f"{head} {name}: {clocks['command']['median']:.1f} s to the first step, "
            f"{clocks['cpu']['median']:.1f} s of CPU",
            flush=True,
        )
        parts = row["parts"][name].items()
        words = (f"{part} {clocks['process']:.2f}" for part, clocks in parts)
        print("  process time: " + ", ".join(words), flush=True)
    for clock, one in row.get("this_over_other", {}).items():
        print(f"  ÷ other, {clock}: {one['median']:.2f} [{one['q1']:.2f}, {one['q3']:.2f}]")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__, 3)
    parser.add_argument("--recipes", nargs="+", default=["quickstart", "llama_60m"])
    parser.add_argument(
        "--launchers", nargs="+", default=["python"], choices=LAUNCHERS, help="default python"
    )
    parser.add_argument("--ranks", nargs="+", type=int, default=[1], help="default 1")
    parser.add_argument("--other", type=Path, help="a checkout to compare with")
    parser.add_argument(
        "--data", type=Path, default=Path("data/startup"), help="folder for the corpus"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    options = parse(arguments)
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    data = options.data.resolve()
    for recipe in options.recipes:
        for checkout in checkouts(options).values():
            prepare(checkout, recipe, data)
    rows = [
        bench(recipe, launcher, ranks, options)
        for recipe in options.recipes
        for ranks in options.ranks
        for launcher in options.launchers
    ]
    results = about(__doc__, options, "repeats") | {"starts": rows}
    if options.other:
        results["machine"]["other"] = str(options.other)
    return finish(options, results, [])


if __name__ == "__main__":
    sys.exit(main())
