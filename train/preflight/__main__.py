"""`python -m train.preflight`; see examine.py."""

import os
import socket
import sys

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the store warns of addresses without a name
try:
    import torch  # noqa: F401  first: a node without packages is told at once, before it keeps the others waiting

    from train.preflight.examine import main

    status = main(sys.argv[1:])
except ImportError as error:
    print(
        f"preflight: {socket.gethostname()}: {sys.executable} cannot import what training needs: "
        f"{error}",
        file=sys.stderr,
    )
    status = 1
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)  # a store's threads must not hold up or spoil the end
