"""Keeps `python -m train.export` working, which was a module before it was this folder."""

import sys

from train.commands import run_former

sys.exit(run_former("train.export"))
