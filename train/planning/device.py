"""Tells what a rank computes on and how much memory that has: this machine's, or a named one's."""

from __future__ import annotations

import re
import socket
from collections import Counter
from dataclasses import dataclass

import torch

from alphadecay.inspect.plan.known_peaks import CARDS, card_named
from train.cluster.distributed import World
from train.errors import UserError
from train.system.device import has_bf16, uses_cuda
from train.system.host_memory import host_memory

GB = 1e9
_SIZE = re.compile(r"(?:^|[-_ ])(\d+(?:\.\d+)?)\s*GB?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Device:
    """The hardware of one rank.

    Args:
        name: as a person knows it.
        memory: bytes that a rank can have; on CPUs, its share of the host's.
        cuda: a GPU, with the kernels that there are for GPUs.
        bf16: has bf16 arithmetic.
    """

    name: str
    memory: float
    cuda: bool
    bf16: bool

    def __str__(self) -> str:
        return f"{self.name} ({self.memory / GB:,.3g} GB)"


def named_device(name: str) -> Device:
    """Return the device that `--device` names.

    It is a known card with or without its memory (h100, a100-40gb, rtx-4090), cpu with the memory
    of a rank (cpu-24gb), or a number of GB of a GPU that is not known.

    Raises:
        UserError: no such device.
    """
    size = _SIZE.search(name)
    words = re.sub(r"[-_]+", " ", (name[: size.start()] if size else name)).strip().lower()
    memory = float(size[1]) * GB if size else 0.0
    if words == "cpu" and memory:
        return Device("cpu", memory, cuda=False, bf16=False)
    if not words and memory:
        return Device("GPU", memory, cuda=True, bf16=True)
    known = next((card for card in CARDS if words in _short_names(card)), None)
    if known is None or (size and not memory):
        examples = ", ".join(sorted(card.lower().replace(" ", "-") for card in CARDS))
        raise UserError(
            f"--device takes a GPU such as h100-80gb, its memory alone in GB, such as 24gb, or "
            f"cpu-24gb for a rank on CPUs, not {name!r}; GPUs by name are {examples}"
        )
    return Device(known, memory or CARDS[known].memory * GB, cuda=True, bf16=True)


def this_device(world: World) -> Device:
    """Return what the ranks compute on, with the memory of the one that has least. Collective."""
    here = _gpu(world.device) if world.device.type == "cuda" else host_device(1)
    found = world.gather((socket.gethostname(), here)) if world.size > 1 else [("", here)]
    on_host = Counter(host for host, _ in found)
    shares = [
        (device.memory / (1 if device.cuda else on_host[host]), device) for host, device in found
    ]
    memory, device = min(shares, key=lambda share: share[0])
    return Device(device.name, memory, device.cuda, device.bf16)


def device_here(ranks: int) -> Device:
    """Return what so many ranks would compute on if all were on this machine."""
    return _gpu(torch.device("cuda", 0)) if uses_cuda() else host_device(ranks)


def host_device(ranks: int) -> Device:
    """Return the share of this host's CPUs and memory that one of so many ranks has."""
    return Device("cpu", host_memory() / ranks, cuda=False, bf16=has_bf16())


def _gpu(device: torch.device) -> Device:
    """Return a GPU with what it is sold as, where that is less than what it reports.

    A dry run elsewhere, which knows nothing else, then comes to the same choice.
    """
    name = torch.cuda.get_device_name(device)
    sizes = [float(torch.cuda.get_device_properties(device).total_memory)]
    known = card_named(name)
    if known is not None:
        sizes.append(CARDS[known].memory * GB)
    if told := _SIZE.search(name):
        sizes.append(float(told[1]) * GB)
    return Device(known or name, min(sizes), cuda=True, bf16=has_bf16())


def _short_names(card: str) -> set[str]:
    """Return a card's name in small letters, with and without its family."""
    whole = card.lower()
    return {whole, whole.removeprefix("rtx ")}
