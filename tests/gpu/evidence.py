"""Ideas about weight decay side by side at 60M: some passes over a little text, one seed.

The base decay is what decay.base auto asks for. Every run is the program's own, from its first step
to its last validation, and all of them share one process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.gpu.cases import Case, Figures, Session
from tests.gpu.engines import release
from tests.gpu.recipes import arguments
from train.config import TrainConfig
from train.config.command_line import load_config
from train.config.decay import METHODS as METHOD_FAMILIES
from train.config.run_folder import METRICS
from train.loop.build import build
from train.planning.auto import choose_here
from train.telemetry.metrics import read_metrics

SECONDS = 32.0  # of a run on an H200, about
STEPS = 360
VALIDATIONS = 6
AUTO = {"decay.base": "auto"}
# What a row is -> keys and values, in the order of what the answer needs first.
METHODS: Mapping[str, Mapping[str, Any]] = {
    "Uniform": {"decay.method": "uniform"} | AUTO,
    "AlphaDecay": {"decay.method": "alphadecay"} | AUTO,
    "No decay": {"decay.method": "none"},
    "LLR": {"decay.method": "alphadecay", "decay.drives": "lr"} | AUTO,
    "LLR's embedding and head alone": {
        "decay.method": "fixed_ratio",
        "decay.ratios": '[{"modules": "*", "ratio": 1}]',
        "decay.drives": "lr",
    }
    | AUTO,
    "Uniform at LLR's mean": {"decay.method": "uniform_at_mean", "decay.drives": "lr"} | AUTO,
    "LLR, shuffled": {"decay.method": "shuffled", "decay.drives": "lr"} | AUTO,
    "Uniform at AlphaDecay's mean": {"decay.method": "uniform_at_mean"} | AUTO,
    "Shuffled": {"decay.method": "shuffled"} | AUTO,
    "Uniform, cautious": {"decay.method": "uniform", "decay.cautious": "true"} | AUTO,
    "LAWN": {"decay.method": "lawn"},
}


def cases() -> Iterator[Case]:
    """Yield a case for each method."""
    for name, keys in METHODS.items():
        yield Case("evidence", name, SECONDS, lambda session, keys=keys: train(keys, session))


def train(keys: Mapping[str, Any], session: Session) -> Figures:
    """Train one run to its end, and return its validations."""
    if session.corpus is None:
        return {"left_out": "it takes a text: --corpus FOLDER"}
    with tempfile.TemporaryDirectory(dir=session.folder) as folder:
        config = load_config(_arguments(keys, session, session.corpus, folder))
        choice = choose_here(config, session.world, 0)
        config = choice.config if choice is not None else config
        started = session.now()
        trainer = build(config, session.world)
        try:
            trainer.train()
        finally:
            trainer.telemetry.close()
            release(trainer.engine.handle)
        validations = read_metrics(Path(folder) / METRICS, "validation")
        lines = read_metrics(Path(folder) / METRICS, "train")
        return {
            "val_perplexity": validations[-1]["val_perplexity"],
            "validations": [[line["step"], line["val_loss"]] for line in validations],
            "train_loss": lines[-1]["loss"],
            "tokens": lines[-1]["tokens"],
            "base_decay": _base_decay(trainer.config),
            "mean_cumulative_decay": lines[-1]["cumulative_decay_mean"],
            "tokens_per_second": lines[-1]["tokens_per_second"],
            "seconds_of_run": session.now() - started,
        }


def _base_decay(config: TrainConfig) -> float:
    decays = METHOD_FAMILIES[config.decay.method].family not in ("none", "norms")
    return config.optim.weight_decay if decays else 0.0


def _arguments(keys: Mapping[str, Any], session: Session, corpus: Path, folder: str) -> list[str]:
    steps = 6 if session.toy else STEPS
    values: dict[str, Any] = {
        "run.steps": steps,
        "run.global_batch": 16 if session.toy else 256,
        "optim.warmup_steps": steps // 10,
        "eval.every": max(1, steps // VALIDATIONS),
        "eval.tokens": 300_000,
        "log.every": max(1, steps // 30),
        "checkpoint.async": "false",
        "decay.interval": max(2, steps // 7),
        "data.source": "files",
        "data.files": [f"{path}" for path in sorted(corpus.glob("*train*.json.gz"))],
        "data.validation_files": [f"{path}" for path in sorted(corpus.glob("*validation*"))],
        "data.max_documents": 0,
        "data.directory": session.folder / "evidence",
        "output_dir": folder,
    }
    tokenizer = corpus / "spiece.model"
    if tokenizer.is_file() and not session.toy:
        values["data.tokenizer"] = tokenizer
    return arguments("60m", session, values | dict(keys))
