"""The program on a tiny corpus with a tiny recipe: started by each of the three launchers as a user
does it, or forked from a server that has its imports done.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT
from tests.forked import fork_program, wait_for_ranks
from tests.waiting import PATIENCE
from train.telemetry.metrics import read_metrics

PROGRAM = str(ROOT / "train" / "pretrain.py")
STEPS = 6
INTERVAL = 3
GLOBAL_BATCH = 4
SEQUENCE = 32
VOCABULARY = 320
# What would make a child a rank of somebody else's run, or put it on a GPU.
NOT_INHERITED = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
    "CROSS_RANK",
    "CROSS_SIZE",
    "LOG_LEVEL",
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code, and everything it printed."""

    code: int
    output: str


def write_corpus(folder: Path, documents: int = 60) -> str:
    """Two C4-form .json.gz files of made-up words; the glob that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    words = [
        "".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 7))) for _ in range(200)
    ]
    texts = [" ".join(chance.choices(words, k=60)) for _ in range(documents)]
    rows = [
        {"text": text, "url": f"https://example.org/{i}", "timestamp": "2020"}
        for i, text in enumerate(texts)
    ]
    for part in range(2):
        with gzip.open(folder / f"part-{part}.json.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows[part::2])
    return str(folder / "part-*.json.gz")


def recipe(corpus: str, prepared: Path) -> dict[str, Any]:
    """A LLaMA of two layers that ends in seconds."""
    return {
        "name": "tiny",
        "model": {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_layers": 2,
            "num_heads": 2,
        },
        "data": {
            "source": "files",
            "files": [corpus],
            "validation_fraction": 0.2,
            "directory": str(prepared),
            "sequence_length": SEQUENCE,
        },
        "optim": {"lr": 3e-3, "weight_decay": 0.1, "grad_clip": 1.0, "warmup_steps": 1},
        "decay": {"interval": INTERVAL},
        "run": {
            "steps": STEPS,
            "global_batch": GLOBAL_BATCH,
            "micro_batch": 1,
            "precision": "float32",
        },
        "eval": {"every": 3, "tokens": 512},
        "checkpoint": {"every": 3, "keep": 2},
        "deepspeed": {"config": "ds_configs/zero3.json"},
        "log": {"every": 1, "progress": "lines"},
    }


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    """The recipe as YAML."""
    path.write_text(yaml.safe_dump(values))
    return path


def command(
    launcher: str, *arguments: str, program: str = PROGRAM, options: Sequence[str] = ()
) -> list[str]:
    """The command line of one launcher, with options of its own; deepspeed and torchrun start two
    ranks.
    """
    scripts = Path(sys.executable).parent
    starts = {
        "python": [sys.executable],
        "deepspeed": [
            str(scripts / "deepspeed"),
            "--num_gpus",
            "2",
            "--master_port",
            str(free_port()),
        ],
        "torchrun": [str(scripts / "torchrun"), "--standalone", "--nproc_per_node", "2"],
    }
    return [*starts[launcher], *options, program, *arguments]


def environment(**more: str) -> dict[str, str]:
    """This process's, made fit for a run on CPU."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return (
        kept
        | {
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        | more
    )


def start(launcher: str, cwd: Path, *arguments: str) -> Outcome:
    """Run the program by a launcher to its end, on CPU, in a folder that is not the project's."""
    done = subprocess.run(
        command(launcher, *arguments),
        cwd=cwd,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
    )
    return Outcome(done.returncode, done.stdout)


def fork_ranks(ranks: int, cwd: Path, log: Path, *command: str, **more: str) -> list[BaseProcess]:
    """Start a program's ranks as a launcher would, without one and without its imports' seconds.

    Args:
        ranks: 1 is a plain `python`, told nothing of ranks.
        command: a script, or `-m` and a module, and its arguments.
        more: environment variables.
    """
    world = {"WORLD_SIZE": str(ranks), "LOCAL_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    places = [world | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    if ranks == 1:
        places = [{}]
    return [fork_program(command, cwd, environment(**place, **more), log) for place in places]


def run(ranks: int, cwd: Path, *command: str) -> Outcome:
    """Run the ranks of a program, forked, to their end, as `start` runs a launcher's."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        code = wait_for_ranks(fork_ranks(ranks, cwd, log, *command), PATIENCE)
        return Outcome(code, log.read_text())


def metrics(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind in a run's metrics.jsonl."""
    return read_metrics(folder / "metrics.jsonl", kind)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def figures(folder: Path) -> list[Any]:
    """What must be the same of two runs, to the bit: its training, validation and refresh lines."""
    training = [
        [record[key] for key in ("step", "loss", "lr", "grad_norm", "tokens")]
        for record in metrics(folder, "train")
    ]
    validation = [[record["step"], record["val_loss"]] for record in metrics(folder, "validation")]
    refreshes = [
        [record["step"], record["alphas"], record["weight_decays"]]
        for record in metrics(folder, "refresh")
    ]
    return [training, validation, refreshes]
