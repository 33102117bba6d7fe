"""Starts one rank for `deepspeed --launcher slurm` by handing over to launch/rank.sh.

That launcher starts Python files only, and tells them nothing.
"""

import os
import sys
from pathlib import Path

launch = Path(__file__).resolve().parent.parent
command = [
    str(launch / "rank.sh"),
    sys.executable,
    "-u",
    str(launch.parent / "train" / "pretrain.py"),
    *sys.argv[1:],
]
os.execv(command[0], command)
