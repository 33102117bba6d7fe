"""A damaged or foreign checkpoint of FSDP2 is passed over with its reason, and runs no code."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import torch

from alphadecay.inspect.paths import DCP_METADATA
from tests.foreign import Touch
from train import checkpoint
from train.checkpoint.manifest import MANIFEST, STATE, facts_of_files
from train.engines.fsdp2_state import CLIENT_STATE

OLDER, NEWER = 3, 6


def shard(state):
    return min(state.glob("*.distcp"))


def truncate(state):
    shard(state).write_bytes(shard(state).read_bytes()[:-100])


def flip(state):
    content = bytearray(shard(state).read_bytes())
    content[len(content) // 2] ^= 1
    shard(state).write_bytes(content)


def hostile_contents(state):
    (state / DCP_METADATA).write_bytes(pickle.dumps(Touch(state / "ran")))
    note(state, DCP_METADATA)


def hostile_client_state(state):
    content = torch.load(state / CLIENT_STATE, weights_only=True)
    torch.save({**content, "more": Touch(state / "ran")}, state / CLIENT_STATE)
    note(state, CLIENT_STATE)


def cut_contents(state):
    (state / DCP_METADATA).write_bytes((state / DCP_METADATA).read_bytes()[:50])
    note(state, DCP_METADATA)


def note(state, name):
    """Put a file's hash right: a hash tells what a file is, not who wrote it."""
    path = state.parent / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"] |= facts_of_files(state.parent, [state / name])
    path.write_text(json.dumps(manifest))


DAMAGES = {
    truncate: "bytes, the manifest says",
    flip: "is not what was written (sha256 differs)",
    lambda state: shard(state).unlink(): "is missing",
    lambda state: (state / DCP_METADATA).unlink(): f"{DCP_METADATA} is missing",
    lambda state: (state.parent / MANIFEST).unlink(): f"{MANIFEST} is missing or unreadable",
    hostile_contents: "asks for tests.foreign.touch, which is no part of one",
    hostile_client_state: "would run code when loaded: it asks for tests.foreign.touch",
    cut_contents: "pickle data was truncated",
}


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run of two checkpoints."""
    folder = tmp_path / "run"
    shutil.copytree(finished("fsdp2"), folder)
    return folder


def step(run, number):
    return run / "checkpoints" / f"step-{number:08d}"


@pytest.mark.parametrize(("damage", "said"), DAMAGES.items())
def test_it_is_passed_over_with_its_reason(run, damage, said):
    damage(step(run, NEWER) / STATE)
    lines = []
    found = checkpoint.find("auto", run / "checkpoints", lines.append)
    assert found is not None and found.step == OLDER
    (line,) = lines
    assert line.startswith(f"passing over {step(run, NEWER)}: ") and said in line
    assert not list(run.rglob("ran"))


def test_the_ranks_agree_and_go_on_from_the_one_before(workplace, run):
    hostile_contents(step(run, NEWER) / STATE)
    outcome = workplace.run(2, str(run), "--engine.kind", "fsdp2")
    assert outcome.code == 0 and f"step {OLDER} of {NEWER}" in outcome.output, outcome.output
    assert "would run code when loaded: the checkpoint's .metadata asks for" in outcome.output
    assert not list(run.rglob("ran"))
