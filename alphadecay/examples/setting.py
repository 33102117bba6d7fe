"""What the examples share and nobody needs to read: a small model, made-up data, and the start and
end of a process.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alphadecay import AlphaDecay

STEPS = 60
ROWS = 64
WIDTH = 48
LABELS = 24


class Net(nn.Module):
    """A perceptron of four layers that returns its loss, the same at every start and on every
    rank.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, LABELS)

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """inputs [rows, WIDTH], labels [rows] -> {"loss": mean cross-entropy}."""
        hidden = nn.functional.gelu(self.down(nn.functional.gelu(self.up(inputs))))
        hidden = nn.functional.gelu(self.mix(hidden))
        return {"loss": nn.functional.cross_entropy(self.out(hidden), labels)}


def batch(step: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """This rank's rows of a step: random points, labelled by the direction they lie nearest to."""
    rank = int(os.environ.get("RANK", 0))
    inputs = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1000 * step + rank))
    directions = torch.randn(WIDTH, LABELS, generator=torch.Generator().manual_seed(1))
    return {"inputs": inputs.to(device), "labels": (inputs @ directions).argmax(1).to(device)}


def start_ranks() -> torch.device:
    """Joins the ranks that torchrun has started, over NCCL on GPUs and gloo on CPUs.

    Returns this rank's device.
    """
    if "RANK" not in os.environ:
        name = getattr(sys.modules["__main__"].__spec__, "name", "alphadecay.examples.ddp")
        raise SystemExit(
            "this example has several ranks; start it with: torchrun --standalone "
            f"--nproc_per_node 2 -m {name}"
        )
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def show(loss: float, decay: AlphaDecay) -> None:
    """The final loss, and every module's decay; printed by rank 0."""
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"final loss {loss:.4f}")
        for name, weight_decay in decay.weight_decays.items():
            print(f"{name:12} decay {weight_decay:.4f}  alpha {decay.alphas[name]:.3f}")


def leave_ranks() -> None:
    """Ends the process at once: gloo's threads abort a normal interpreter exit now and then
    (pytorch#190489).
    """
    dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
