"""The names of what a run leaves in its folder: written by several rooms, read by others."""

from __future__ import annotations

ATTEMPTS = "attempts.jsonl"
BEGUN = "begun.json"
CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
DIVERGED = "diverged.json"
HANG = "hang"
HEATMAP = "heatmap.png"
METRICS = "metrics.jsonl"
REPORT = "report.html"
STATUS = "state.json"
STOP = "stop"
SUMMARY = "summary.json"
TENSORBOARD = "tensorboard"
TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_MODEL = "tokenizer.model"
