"""Runs the command `python -m train preflight`, which orchestrate.py carries out."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    # The store warns of addresses without a name.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        # First: a node without packages is told at once, before it keeps the others waiting.
        import torch  # noqa: F401

        from train.cluster.preflight.orchestrate import main as examine

        status = examine(list(arguments))
    except ImportError as error:
        print(
            f"preflight: {socket.gethostname()}: {sys.executable} cannot import what training "
            f"needs: {error}",
            file=sys.stderr,
        )
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a store's threads must not hold up or spoil the end
