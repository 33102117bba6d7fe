"""The names of what a run leaves in its folder: written by several rooms, read by others."""

from __future__ import annotations

from alphadecay.inspect.run_folder import ATTEMPTS as ATTEMPTS
from alphadecay.inspect.run_folder import CHECKPOINTS as CHECKPOINTS
from alphadecay.inspect.run_folder import CONFIG as CONFIG
from alphadecay.inspect.run_folder import METRICS as METRICS
from alphadecay.inspect.run_folder import REPORT as REPORT
from alphadecay.inspect.run_folder import STATUS as STATUS
from alphadecay.inspect.run_folder import SUMMARY as SUMMARY

BEGUN = "begun.json"
CLASSES = "classes.json"
DIVERGED = "diverged.json"
HANG = "hang"
HEATMAP = "heatmap.png"
PREPROCESSOR = "preprocessor_config.json"
STOP = "stop"
TENSORBOARD = "tensorboard"
TOKENIZER_JSON = "tokenizer.json"
# All that a tokenizer of transformers may save.
TOKENIZER_FILES = (
    TOKENIZER_JSON,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
TOKENIZER_MODEL = "tokenizer.model"
ZERO_SHOT = "zero_shot.json"
