"""The pre-training program: `train/pretrain.py`, and `python -m train COMMAND`."""

import sys

# before anything that an older one cannot even read
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        f"error: the program needs Python 3.11 or newer; {sys.executable} is "
        f"{sys.version.split()[0]}"
    )

from train import commands

commands.install_former_names()
