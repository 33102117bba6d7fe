"""Reads run folders: a run counts, or the table tells why it does not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.metrics import FigureOfMerit, read_metrics
from train.config import TrainConfig
from train.config.command_line import load_config
from train.config.deciding import other_settings
from train.config.run_folder import CONFIG, METRICS, SUMMARY, TOKENIZER_JSON, TOKENIZER_MODEL
from train.errors import UserError
from train.experiments.grids.cells import Run
from train.experiments.grids.first_step import FirstStep
from train.experiments.grids.resolved_run import plan
from train.loop.run_status import read_state
from train.tasks.registry import figure_of
from train.telemetry.summary import read_summary

TOKENIZER_FILES = (TOKENIZER_MODEL, TOKENIZER_JSON)
SHOWN = 4  # of the settings that differ
Why = Literal[
    "missing", "unfinished", "failed", "diverged", "not reached", "other settings", "unreadable"
]


@dataclass(frozen=True)
class Record:
    """A finished run that counts.

    Args:
        run: which one.
        config: its resolved settings.
        summary: its summary.json.
        figure: of merit.
        value: of that figure on the validation set; a perplexity's mean is over tokens.
        published: a perplexity as the published code counts; see
            train/tasks/language_modelling/evaluation.py. None where the run did not record it.
        tokenizer: SHA-256 of its tokenizer's file; None where the run kept none.
    """

    run: Run
    config: TrainConfig
    summary: Mapping[str, Any]
    figure: FigureOfMerit
    value: float
    published: float | None
    tokenizer: str | None


@dataclass(frozen=True)
class Absent:
    """A run of the grid that does not count.

    Args:
        run: which one.
        why: missing (never started), unfinished (running or stopped), failed, diverged (finished
            without a finite figure of merit), not reached (the bound that the grid asks for), other
            settings (than the grid has now), or unreadable.
        detail: what was found.
    """

    run: Run
    why: Why
    detail: str


@dataclass(frozen=True)
class Collected:
    """Every run of a grid, in one of two places."""

    records: tuple[Record, ...]
    absent: tuple[Absent, ...]


def collect(
    runs: Iterable[Run],
    extra: Mapping[str, str] = MappingProxyType({}),
    first_step: FirstStep | None = None,
) -> Collected:
    """Read every run's folder; nothing in one stops it.

    Args:
        extra: overrides that the sweep was given besides the grid's.
        first_step: takes the place of the task's figure of merit.
    """
    outcomes = [_read(run, extra) for run in runs]
    if first_step is not None:
        outcomes = [_by_first_step(outcome, first_step) for outcome in outcomes]
    return Collected(
        tuple(outcome for outcome in outcomes if isinstance(outcome, Record)),
        tuple(outcome for outcome in outcomes if isinstance(outcome, Absent)),
    )


def _read(run: Run, extra: Mapping[str, str]) -> Record | Absent:
    state = read_state(run.folder)
    if state.get("state") != "finished":
        return _not_finished(run, state)
    try:
        config = load_config(["--config", str(run.folder / CONFIG)])
    except UserError as error:
        return Absent(run, "unreadable", str(error))
    if other := other_settings(config, plan(run, extra).config):
        more = f"; and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        return Absent(run, "other settings", "; ".join(other[:SHOWN]) + more)
    summary = read_summary(run.folder / SUMMARY)
    if summary is None:
        return Absent(run, "unreadable", f"no {SUMMARY} that can be read")
    # A folder that was used again may hold the summary of what ran there before.
    expected = {"steps": config.run.steps, "method": config.decay.method}
    stale = [key for key, now in expected.items() if summary.get(key) != now]
    if stale:
        words = ", ".join(f"{key} {summary.get(key)}" for key in stale)
        return Absent(run, "unreadable", f"{SUMMARY} is of another run: {words}")
    figure = figure_of(config)
    value = _finite(summary.get(figure.name))
    if value is None:
        return Absent(run, "diverged", f"finished without a finite {figure.label}")
    published = _finite(summary.get(f"{figure.name}_published"))
    return Record(run, config, summary, figure, value, published, _tokenizer(run.folder))


def _by_first_step(outcome: Record | Absent, first_step: FirstStep) -> Record | Absent:
    """Return the run as one that is compared by a step, which it may never have reached."""
    if isinstance(outcome, Absent):
        return outcome
    try:
        step = first_step.step_of(read_metrics(outcome.run.folder / METRICS, "validation"))
    except (OSError, InspectError) as error:
        return Absent(outcome.run, "unreadable", str(error))
    if step is None:
        last = outcome.summary.get(first_step.first)
        told = f"{first_step.first} is {last:.4g}" if last is not None else "it is not recorded"
        detail = f"{told} at step {outcome.config.run.steps}, not {first_step.reaches:g}"
        return Absent(outcome.run, "not reached", detail)
    return replace(outcome, figure=first_step.figure, value=float(step), published=None)


def _not_finished(run: Run, state: Mapping[str, Any]) -> Absent:
    stands = state.get("state")
    detail = f"{stands} at step {state.get('step')} of {state.get('steps')}"
    if state.get("reason"):
        detail += f": {state['reason']}"
    if stands == "failed":
        return Absent(run, "failed", detail)
    if stands in ("running", "stopped"):
        return Absent(run, "unfinished", detail)
    started = run.folder.is_dir() and any(run.folder.iterdir())
    if started:
        return Absent(run, "unfinished", "no state.json that can be read")
    return Absent(run, "missing", "never started")


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _tokenizer(folder: Path) -> str | None:
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            return hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return None
