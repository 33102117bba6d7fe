"""The names of what a run leaves in its folder: written by several rooms, read by others."""

from __future__ import annotations

from alphadecay.inspect.run_folder import CHECKPOINTS as CHECKPOINTS

ATTEMPTS = "attempts.jsonl"
BEGUN = "begun.json"
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
ZERO_SHOT = "zero_shot.json"
