"""The commands of `alphadecay`: one module each, of the command's own name.

Each has `add_arguments(parser)` and `run(options) -> int`, the exit status; it imports torch and
what draws in `run`, so that a `--help` comes at once. What it says of itself is its docstring.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# name -> what it does, in the list of `alphadecay --help`
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "analyze": "alpha, scores and decay of every weight of a model",
        "compare": "runs side by side, as a table and as one HTML page",
        "diff": "what changed between two checkpoints, or a base and its fine-tune",
        "estimate": "print alpha of a matrix, the fit's distance and the size of its tail",
        "explain": "how a weight comes by its decay, in words and in a picture",
        "plan": "what a refresh costs and what a rank holds, before anything is run",
        "report": "the page of a run, one HTML file",
        "watch": "alphas and decays of a run under way, in the terminal",
    }
)
