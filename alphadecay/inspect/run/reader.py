"""Reads a run's folder once, whatever its state, and with whatever pieces are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.goodput import goodput, read_attempts
from alphadecay.inspect.run.metrics import Record, read_metrics
from alphadecay.inspect.run_folder import (
    ATTEMPTS,
    CHECKPOINTS,
    CONFIG,
    MANIFEST,
    METRICS,
    STATUS,
    SUMMARY,
    commit_number,
    read_object,
    step_folders,
)

# methods that record something else in alpha's place
SCORES = {"frobenius_norm": "Frobenius norm", "spectral_norm": "Spectral norm"}
# methods without refreshes
UNMEASURED = ("none", "uniform", "lawn", "hyperball")


@dataclass(frozen=True)
class Run:
    """A run as it stands.

    Args:
        folder: its output_dir.
        records: the lines of metrics.jsonl.
        summary: summary.json; empty while the run has not been finished once.
        state: state.json; empty for a run that wrote none.
        config_text: config.yaml as it is; empty where there is none.
        config: the same as nested dicts.
        manifest: of the newest checkpoint, complete or not; empty where there is none.
        goodput: where its wall time went; None where nothing says.
    """

    folder: Path
    records: list[Record]
    summary: dict[str, Any]
    state: dict[str, Any]
    config_text: str
    config: dict[str, Any]
    manifest: dict[str, Any]
    goodput: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name as configured, or the folder's where nothing says."""
        given = self.config.get("name") or self.summary.get("name")
        return str(given or self.folder.resolve().name)

    @property
    def method(self) -> str:
        """The value of decay.method, empty where nothing says."""
        return str(self.setting("decay", "method") or self.summary.get("method") or "")

    @property
    def last_step(self) -> int:
        """The last step that metrics.jsonl knows of, 0 before the first."""
        return max((int(record["step"]) for record in self.of("train")), default=0)

    def of(self, kind: str) -> list[Record]:
        """Return the records of one kind."""
        return [record for record in self.records if record["kind"] == kind]

    def setting(self, section: str, key: str, default: Any = None) -> Any:
        """Return a value of config.yaml, or the default where it is not there.

        A run of another version may lack it.
        """
        values = self.config.get(section)
        return values.get(key, default) if isinstance(values, dict) else default


def read_run(folder: Path) -> Run:
    """Read all of a run's folder but the weights.

    Raises:
        InspectError: no folder of a run, or a damaged metrics.jsonl.
    """
    if not (folder / METRICS).is_file():
        raise InspectError(
            f"{folder} has no {METRICS}; name the folder of a run that has begun, such as "
            "runs/quickstart"
        )
    text, config = read_config(folder / CONFIG)
    summary = read_object(folder / SUMMARY)
    return Run(
        folder,
        read_metrics(folder / METRICS),
        summary,
        read_object(folder / STATUS),
        text,
        config,
        _manifest(folder),
        goodput(read_attempts(folder / ATTEMPTS)) or summary.get("goodput"),
    )


def read_config(path: Path) -> tuple[str, dict[str, Any]]:
    """Return config.yaml as it is and as nested dicts; nothing where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return "", {}
    return text, config if isinstance(config, dict) else {}


def _manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the newest checkpoint, which need not be of the highest step."""
    folders = step_folders(folder / CHECKPOINTS)
    for path in sorted(folders, key=lambda path: commit_number(path) or 0, reverse=True):
        if manifest := read_object(path / MANIFEST):
            return manifest
    return {}
