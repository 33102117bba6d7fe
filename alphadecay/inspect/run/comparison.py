"""Reads several runs to be looked at side by side, and tells what sets them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.metrics import figure_of
from alphadecay.inspect.run.reader import SCORES, UNMEASURED, Run, read_run

# settings that say where a run lies, not what it is
_PLACES = frozenset({"name", "output_dir"})


@dataclass(frozen=True)
class Compared:
    """One run among others.

    Args:
        label: its name, with its folder where several have that name.
        run: as it stands.
        remarks: clauses about what it has not got, and why.
    """

    label: str
    run: Run
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Several runs.

    Args:
        runs: that can be read, in the order given.
        left_out: folder -> why it cannot be read.
    """

    runs: tuple[Compared, ...]
    left_out: Mapping[str, str]


def read_comparison(folders: Sequence[Path]) -> Comparison:
    """Read runs; those that cannot be read are left out, with the reason.

    Raises:
        InspectError: none can be read.
    """
    runs: list[Run] = []
    left_out: dict[str, str] = {}
    for folder in dict.fromkeys(folders):
        try:
            runs.append(read_run(folder))
        except InspectError as error:
            left_out[str(folder)] = str(error)
    if not runs:
        raise InspectError(f"there is no run to show: {'; '.join(left_out.values())}")
    compared = [
        Compared(label, run, tuple(_remarks(run)))
        for label, run in zip(labels(runs), runs, strict=True)
    ]
    return Comparison(tuple(compared), left_out)


def labels(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run that no other has: its own, with its folder where it must be."""
    names = Counter(run.name for run in runs)
    return [run.name if names[run.name] == 1 else f"{run.name} ({run.folder})" for run in runs]


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the settings that are not the same in all runs: key -> each run's value as text.

    It is a dash where a run's configuration has no such key.
    """
    settings = [dict(_flat("", run.config)) for run in runs]
    keys = dict.fromkeys(key for one in settings for key in one)
    found = {}
    for key in keys:
        values = [_text(one[key]) if key in one else "–" for one in settings]
        if key not in _PLACES and len(set(values)) > 1:
            found[key] = values
    return found


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value == "" else str(value)


def _remarks(run: Run) -> Iterator[str]:
    state = str(run.state.get("state") or "")
    steps = run.setting("run", "steps")
    if not state:
        yield "it has no state.json"
    elif state != "finished":
        of = f" of {steps:,}" if isinstance(steps, int) else ""
        yield f"it is {state} at step {run.last_step:,}{of}"
    if not run.config:
        yield "it has no config.yaml that can be read"
    if not run.of("train"):
        yield "it has no training step yet"
    if not run.of("validation"):
        yield "it has no validation"
    if why := _why_without_alpha(run):
        yield why
    if run.goodput is None:
        yield "it does not say where its wall time went"


def _why_without_alpha(run: Run) -> str:
    """Return why a run has no alphas; empty where it has."""
    if run.method in SCORES:
        return f"it measures the {SCORES[run.method]} in the place of alpha"
    if run.method in UNMEASURED:
        return f"its method, {run.method}, measures no alpha"
    refreshes = run.of("refresh")
    if not refreshes:
        return "it has no refresh yet"
    if any(record.get("alphas") for record in refreshes):
        return ""
    return f"its method, {run.method or 'unknown'}, records no alpha"


def shared_label(runs: Sequence[Compared]) -> str:
    """Return what people call the figure of merit, where all runs have the same one."""
    labels = {figure_of(one.run.of("validation")).label for one in runs}
    return labels.pop() if len(labels) == 1 else "figure of merit"
