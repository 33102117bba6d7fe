"""Which rank reads which file of a checkpoint, and what all of them make of it."""

import threading
from dataclasses import dataclass, field

import pytest

from tests.unit.train.checkpoint.layouts import write_checkpoint
from train import checkpoint
from train.checkpoint import manifest
from train.checkpoint.byte_progress import ByteProgress
from train.checkpoint.together import damage, find_together, reader
from train.checkpoint.universal import ALONE
from train.errors import UserError


@dataclass
class Shared:
    """What the threads of one world share."""

    size: int
    words: list = field(default_factory=list)
    barrier: threading.Barrier = None

    def __post_init__(self):
        self.words = [None] * self.size
        self.barrier = threading.Barrier(self.size)


@dataclass
class Thread:
    """One rank of a world whose ranks are threads."""

    rank: int
    shared: Shared

    @property
    def size(self):
        return self.shared.size

    @property
    def is_main(self):
        return self.rank == 0

    def wait_for_all(self):
        self.shared.barrier.wait()

    def gather(self, value):
        self.shared.words[self.rank] = value
        self.shared.barrier.wait()
        words = list(self.shared.words)
        self.shared.barrier.wait()
        return words

    def run_on_main(self, action, patient=False):
        return self.gather(action() if self.is_main else None)[0]


def on_ranks(size, action):
    """Run the action on every rank; return what each returned."""
    shared = Shared(size)
    results = [None] * size

    def run(rank):
        results[rank] = action(Thread(rank, shared))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def read_by(monkeypatch):
    """The files that were hashed, in any order."""
    files = []
    real = manifest._sha256

    def sha256(path, read):
        files.append(path.name)
        return real(path, read)

    monkeypatch.setattr(manifest, "_sha256", sha256)
    return files


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("state/zero_pp_rank_3_mp_rank_00_optim_states.pt", 3),
        ("state/bf16_zero_pp_rank_12_mp_rank_00_optim_states.pt", 12 % 8),
        ("state/own_rank_00007.pt", 7),
    ],
)
def test_a_rank_reads_what_it_wrote(name, rank):
    assert reader(name, 8) == rank


def test_other_files_are_shared_out_evenly():
    names = [f"state/zero/model.layers.{i}.mlp/fp32.pt" for i in range(400)]
    counts = [sum(reader(name, 4) == rank for name in names) for rank in range(4)]
    assert sum(counts) == 400 and min(counts) > 60


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_byte_is_read_once_and_all_agree(tmp_path, read_by, ranks):
    source = write_checkpoint(tmp_path / "checkpoints", stage=3)
    read_by.clear()
    assert on_ranks(ranks, lambda world: damage(source.path, world, print)) == [""] * ranks
    assert sorted(read_by) == sorted(path.name for path in (source.path / "state").iterdir())
    file = source.path / "state/zero_pp_rank_1_mp_rank_00_optim_states.pt"
    file.write_bytes(file.read_bytes()[::-1])
    (reason,) = set(on_ranks(ranks, lambda world: damage(source.path, world, print)))
    assert reason == f"state/{file.name} is not what was written (sha256 differs)"


def test_all_take_the_newest_whose_bytes_are_right(tmp_path):
    folder = tmp_path / "checkpoints"
    older = write_checkpoint(folder, stage=2, step=1)
    newer = write_checkpoint(folder, stage=2, step=2)
    file = newer.path / "state/zero_pp_rank_1_mp_rank_00_optim_states.pt"
    file.write_bytes(file.read_bytes()[::-1])
    said = []
    found = on_ranks(2, lambda world: find_together("auto", folder, world, said.append))
    assert found == [older, older]
    assert said == [
        f"passing over {newer.path}: state/{file.name} is not what was written (sha256 differs)"
    ]
    with pytest.raises(UserError, match=r"no complete checkpoint: .*sha256 differs"):
        find_together(str(newer.path), folder, ALONE, print)
    assert find_together("never", folder, ALONE, print) is None


def test_ranks_convert_their_shares(tmp_path):
    source = write_checkpoint(tmp_path / "checkpoints", stage=2)
    final = source.path.with_name("u")
    made = on_ranks(2, lambda world: checkpoint.convert(source, final, world))
    alone = checkpoint.convert(source, source.path.with_name("alone"))
    assert made[0] == made[1]
    hashes = [
        {name: facts["sha256"] for name, facts in one.manifest["files"].items() if "/fp32" in name}
        for one in (made[0], alone)
    ]
    assert hashes[0] == hashes[1] and len(hashes[0]) == 3


def test_progress_is_said_every_half_minute():
    said = []
    clock = iter([0.0, 10.0, 29.0, 31.0, 60.0, 62.0])
    progress = ByteProgress("checking x", 10_000_000_000, said.append, lambda: next(clock))
    for _ in range(5):
        progress.add(1_000_000_000)
    assert said == ["checking x: 3.0 of 10.0 GB", "checking x: 5.0 of 10.0 GB"]
