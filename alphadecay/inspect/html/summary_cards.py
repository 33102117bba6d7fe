"""The figures at the top of a report, as label and text."""

from __future__ import annotations

import math
from typing import Any

from alphadecay.inspect.run import goodput_words
from alphadecay.inspect.run.metrics import Record, figure_of
from alphadecay.inspect.run.parts import PARTS, training_seconds
from alphadecay.inspect.run.reader import Run
from alphadecay.inspect.run.versions import versions
from alphadecay.inspect.run.words import clock, engine_words, number

Facts = list[tuple[str, str]]


def headline(run: Run) -> tuple[str, str]:
    """Return the state in a word, and the line that explains it."""
    state = str(run.state.get("state") or "unknown")
    reason = str(run.state.get("reason") or "")
    steps = run.setting("run", "steps")
    where = f"step {run.last_step:,}"
    if isinstance(steps, int):
        where += f" of {steps:,}"
    hints = {
        "running": "unless it was killed, which it could not have said",
        "unknown": "this run has no state.json",
        "finished": "",
    }
    why = hints.get(state, reason)
    return state, f"{where} · {why}" if why else where


def facts(run: Run) -> Facts:
    """Return label and text of everything that is known; the rest is left out."""
    speed, utilisation = _speed(run)
    cards = [
        ("Method", run.method),
        *_figure_of_merit(run.of("validation")),
        ("Training loss", _last_loss(run.of("train"))),
        ("Tokens", _number(_last(run.of("train"), "tokens"))),
        ("Tokens per second", _number(speed)),
        ("MFU", "" if utilisation is None else f"{utilisation:.1%}{_peak(run)}"),
        ("Parameters", _number(run.summary.get("model_parameters"))),
        ("Device", _device(run)),
        ("Time", _time(run.of("train"))),
        ("Goodput", goodput_words.headline(run.goodput) if run.goodput else ""),
        ("Memory, at most", _memory(run.of("train"))),
        ("Skipped steps", _count(run.of("notice"), "in_a_row")),
        ("Loss spikes", _count(run.of("notice"), "deviations")),
        ("Sizes", _chosen(run)),
    ]
    return [(label, text) for label, text in cards if text]


def version_facts(run: Run) -> tuple[str, Facts]:
    """Return whose versions they are, and the versions.

    They are the run's where its summary says, else those of the program that makes the report.
    """
    known = run.summary.get("versions")
    whose = "that ran it"
    if not known:
        whose = "that made this report; those that ran it are not known before the run ends"
    installed = (known or versions()).items()
    return whose, [(name, str(version or "not installed")) for name, version in installed]


def _figure_of_merit(validations: list[Record]) -> Facts:
    figure = figure_of(validations)
    values = [record.get(figure.name) for record in validations]
    known = [value for value in values if value is not None]
    if not known:
        return []
    before = f"{number(known[0])} → " if len(known) > 1 else ""
    published = _last(validations, "val_perplexity_published")
    return [
        (f"Validation {figure.label}", before + number(known[-1])),
        ("The same, as the published code counts", "" if published is None else number(published)),
    ]


def _speed(run: Run) -> tuple[float | None, float | None]:
    """Return tokens per second and MFU over the whole run: the summary's where it is of this step,
    else from the records.
    """
    if run.summary.get("steps") == run.last_step:
        return run.summary.get("tokens_per_second"), run.summary.get("mfu")
    timed = [(record, training_seconds(_seconds(record))) for record in run.of("train")]
    whole = math.fsum(seconds for _, seconds in timed)
    tokens = _last(run.of("train"), "tokens")
    shares = [
        (record["mfu"], seconds)
        for record, seconds in timed
        if record.get("mfu") is not None and seconds
    ]
    speed = tokens / whole if whole and tokens else None
    if not shares:
        return speed, None
    weighted = math.fsum(mfu * seconds for mfu, seconds in shares)
    return speed, weighted / math.fsum(seconds for _, seconds in shares)


def _peak(run: Run) -> str:
    peak = _last(run.of("train"), "peak_tflops")
    return f" of {peak:.3g} TFLOP/s" if peak else ""


def _device(run: Run) -> str:
    known = {"engine_shard": run.setting("engine", "shard")} | run.manifest | run.summary
    ranks = known.get("world_size")
    parts = [str(run.summary.get("device") or "")]
    if ranks:
        parts.append("1 rank" if ranks == 1 else f"{ranks} ranks")
    parts.append(engine_words(known))
    parts.append(str(run.summary.get("precision") or run.manifest.get("precision") or ""))
    return " · ".join(part for part in parts if part)


def _chosen(run: Run) -> str:
    """Return what auto took and why; empty where the sizes that the run has now are the user's."""
    sizes = {
        "micro_batch": run.setting("run", "micro_batch"),
        "ds_config": run.setting("deepspeed", "config"),
    }
    choices = [notice for notice in run.of("notice") if notice.keys() >= sizes.keys()]
    if not choices or any(choices[-1][key] != size for key, size in sizes.items()):
        return ""
    return str(choices[-1]["notice"])


def _time(records: list[Record]) -> str:
    seconds = math.fsum(value for record in records for value in _seconds(record).values())
    return clock(seconds) if seconds else ""


def _seconds(record: Record) -> dict[str, float]:
    timed = record.get("seconds") or {}
    return {name: float(timed.get(name) or 0.0) for name in PARTS}


def _memory(records: list[Record]) -> str:
    for kind in ("peak_allocated_bytes", "peak_resident_bytes"):
        peaks = [(record.get("memory") or {}).get(kind) for record in records]
        most = max((peak for peak in peaks if peak), default=0)
        if most:
            return f"{most / 2**30:.2f} GiB on a rank"
    return ""


def _last_loss(records: list[Record]) -> str:
    loss = _last(records, "loss")
    return "" if loss is None else f"{loss:.4f}"


def _count(notices: list[Record], key: str) -> str:
    count = sum(key in record for record in notices)
    return f"{count:,}" if count else ""


def _last(records: list[Record], key: str) -> Any:
    """Return the last value that is one; NaN was written as null."""
    return next((record[key] for record in reversed(records) if record.get(key) is not None), None)


def _number(value: float | None) -> str:
    return "" if value is None else number(value)
