"""A stand-in for DeepSpeed that writes small files, for tests of what is made of them."""

from __future__ import annotations

import os
from types import SimpleNamespace

import torch

from train import checkpoint
from train.config.command_line import load_config
from train.engines.deepspeed import DeepSpeedEngine

WORLD = SimpleNamespace(
    size=2,
    rank=0,
    is_main=True,
    device=torch.device("cpu"),
    run_on_main=lambda action: action(),
    gather=lambda value: [value],
    barrier=lambda: None,
)


class Writer:
    """DeepSpeed's writer of files."""

    def makedirs(self, path, exist_ok):
        os.makedirs(path, exist_ok=exist_ok)

    def save(self, state_dict, path):
        with open(path, "wb") as file:
            file.write(state_dict)


class DeepSpeed:
    """Writes what DeepSpeed would, through its writer: a file per rank, in a folder."""

    def __init__(self, content=b"weights", writer=None):
        self.content = content
        self.checkpoint_engine = writer or Writer()
        self.module = torch.nn.Linear(2, 2)
        self.optimizer = torch.optim.AdamW(self.module.parameters())

    def zero_optimization_stage(self):
        return 3

    def zero_nvme_offload_optimizer(self):
        return False

    def save_checkpoint(self, folder, tag, client_state, save_latest):
        state = os.path.join(folder, tag)
        self.checkpoint_engine.makedirs(state, exist_ok=True)
        for rank in range(2):
            self.checkpoint_engine.save(
                self.content + bytes([rank]), os.path.join(state, f"rank_{rank}.pt")
            )
        self._copy_recovery_script(folder)

    def _copy_recovery_script(self, folder):
        raise AssertionError(
            "a script that unpickles whatever it finds has no place in a checkpoint"
        )


def engine(content=b"weights", writer=None):
    return DeepSpeedEngine(DeepSpeed(content, writer))


def identity(*arguments, data="abc"):
    precision = () if "--run.precision" in arguments else ("--run.precision", "float32")
    return checkpoint.identity(
        load_config([*precision, *arguments]),
        WORLD.size,
        {"engine": "deepspeed", "zero_stage": 3},
        data,
    )


def steps(folder):
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def found(folder, resume="auto"):
    said = []
    return checkpoint.find(resume, folder, said.append), said


def flip(path):
    """Turn one bit of a file round."""
    file = path / "state/rank_0.pt"
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
