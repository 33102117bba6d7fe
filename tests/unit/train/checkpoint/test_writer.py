"""A snapshot that another process writes is what torch.save would have written, as it was when it
was taken; what goes wrong there is reported.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import resource
import signal
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from tests.forked import fork
from tests.unit.train.checkpoint.snapshots import snapshot_of, writer
from tests.waiting import PATIENCE, until
from train.checkpoint import writer_process
from train.checkpoint.safe_load import safe_load, why_unsafe
from train.checkpoint.writer import Writer
from train.engines.snapshot import Snapshot
from train.system.shared_memory import Arena


def state() -> dict[str, Any]:
    """Every way in which a tensor may lie in its storage, and what is no tensor."""
    generator = torch.Generator().manual_seed(1)
    flat = torch.randn(3000, generator=generator)
    return {
        "flat": flat,
        "piece": flat[7:19],
        "transposed": torch.randn(5, 3, generator=generator).bfloat16().t(),
        "parameter": torch.nn.Parameter(torch.randn(4, generator=generator)),
        "module": OrderedDict(weight=flat[:6].view(2, 3)),
        "bytes": torch.arange(200, dtype=torch.uint8),
        "nothing": torch.empty(0, 3),
        "number": torch.tensor(2.5, dtype=torch.float64),
        "plain": [1, 2.5, None, "text", (True, -(2**40))],
    }


def tensors_of(value: dict[str, Any]) -> dict[str, Tensor]:
    module = {f"module.{name}": tensor for name, tensor in value["module"].items()}
    return module | {name: own for name, own in value.items() if isinstance(own, Tensor)}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected) and found["plain"] == expected["plain"]
    theirs = tensors_of(expected)
    for name, tensor in tensors_of(found).items():
        assert tensor.dtype == theirs[name].dtype and tensor.stride() == theirs[name].stride()
        assert tensor.equal(theirs[name]), name


def test_a_file_is_what_torch_save_writes(tmp_path: Path) -> None:
    path = tmp_path / "state" / "own.pt"
    with writer() as own:
        report = own.write(snapshot_of(path, state()), tmp_path).result(PATIENCE)
    assert report.failure is None
    theirs = tmp_path / "theirs.pt"
    torch.save(state(), theirs)
    loaded = safe_load(path)
    assert_same(loaded, torch.load(theirs, weights_only=True))
    pointers = {loaded[name].untyped_storage().data_ptr() for name in ("flat", "piece")}
    assert len(pointers) == 1  # a storage is there once
    content = path.read_bytes()
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert report.facts == {"state/own.pt": facts}
    assert report.places == {"state/own.pt": [(0, len(content))]}

    assert why_unsafe(path) == ""
    mapped = safe_load(path, mmap=True)
    assert_same(mapped, state())
    assert mapped["flat"].data_ptr() % 64 == 0
    with zipfile.ZipFile(path) as ours, zipfile.ZipFile(theirs) as torchs:
        assert ours.testzip() is None
        records = {name.partition("/")[2] for name in torchs.namelist()}
        own_records = {name.partition("/")[2] for name in ours.namelist()}
        assert records - {".data/serialization_id"} == own_records


def test_entries_of_64_bit_sizes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_process, "_LARGE", 100)
    content = io.BytesIO()
    snapshot = snapshot_of(tmp_path / "x", {"weight": torch.arange(500.0)})
    (archive,) = snapshot.archives[tmp_path / "x"]
    data = torch.arange(500.0).numpy().tobytes()
    writer_process.write_archive(
        writer_process.HashedFile(content),
        memoryview(archive.content),
        [memoryview(data)],
        os.getppid(),
    )
    content.seek(0)
    assert torch.load(content, weights_only=True)["weight"].equal(torch.arange(500.0))


def test_a_row_of_tensors_lies_where_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "row"
    whole = torch.arange(1000.0).view(10, 100)
    pieces = [whole[2:5], whole[:, 3], torch.tensor(7, dtype=torch.int64)]
    snapshot = Snapshot()
    snapshot.take_tensors(path, pieces)
    with writer() as own:
        report = own.write(snapshot, tmp_path).result(PATIENCE)
    content = path.read_bytes()
    assert report.facts["row"]["sha256"] == hashlib.sha256(content).hexdigest()
    for (start, size), piece in zip(report.places["row"], pieces, strict=True):
        loaded = torch.load(io.BytesIO(content[start : start + size]), weights_only=True)
        assert loaded.equal(piece) and loaded.is_contiguous()
        assert loaded.untyped_storage().nbytes() == piece.nbytes  # and no more of the whole


def held(own: Writer, path: Path) -> psutil.Process:
    """The writer's process, which has written a first file and stands still."""
    assert own.write(snapshot_of(path, {}), path.parent).result(PATIENCE).failure is None
    assert own.pid is not None
    process = psutil.Process(own.pid)
    process.suspend()
    until(lambda: process.status() == psutil.STATUS_STOPPED)
    return process


def test_what_changes_after_it_was_taken_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    weight = torch.arange(100_000.0)
    settings = {"step": 1}
    with writer() as own:
        process = held(own, tmp_path / "first.pt")
        done = own.write(snapshot_of(path, {"weight": weight, "settings": settings}), tmp_path)
        weight.zero_()  # the training goes on
        settings["step"] = 2
        assert not done.done()
        process.resume()
        assert done.result(PATIENCE).failure is None
    loaded = torch.load(path, weights_only=True)
    assert loaded["weight"].equal(torch.arange(100_000.0)) and loaded["settings"] == {"step": 1}


def test_the_memory_is_kept_and_grows(tmp_path: Path) -> None:
    with writer() as own:
        capacities = []
        for elements in (1000, 500, 3_000_000):
            path = tmp_path / f"{elements}.pt"
            weight = torch.full((elements,), float(elements))
            assert own.write(snapshot_of(path, weight), tmp_path).result(PATIENCE).failure is None
            assert torch.load(path, weights_only=True).equal(weight)
            capacities.append(own.arena.capacity)
        assert capacities[0] == capacities[1] < 12_000_000 <= capacities[2]


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    with writer() as own:
        process = held(own, tmp_path / "first.pt")
        # as a full disk does, it stops a file in the middle
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        snapshot = snapshot_of(tmp_path / "state.pt", torch.zeros(100_000))
        process.resume()
        report = own.write(snapshot, tmp_path).result(PATIENCE)
    assert isinstance(report.failure, OSError) and report.failure.errno == errno.EFBIG
    assert report.facts == {}


def test_a_killed_process_is_reported_and_another_takes_its_place(tmp_path: Path) -> None:
    with writer() as own:
        process = held(own, tmp_path / "first.pt")
        done = own.write(snapshot_of(tmp_path / "lost.pt", {}), tmp_path)
        process.kill()
        failure = done.result(PATIENCE).failure
        assert str(failure) == "the process that writes it was killed by SIGKILL"
        report = own.write(snapshot_of(tmp_path / "next.pt", {"a": 1}), tmp_path).result(PATIENCE)
        assert report.failure is None and own.pid != process.pid
    assert torch.load(tmp_path / "next.pt", weights_only=True) == {"a": 1}


def test_no_memory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(size: int) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with writer() as own:
        monkeypatch.setattr(own.arena, "reserve", none)
        failure = own.write(snapshot_of(tmp_path / "x", {}), tmp_path).result(PATIENCE).failure
    assert isinstance(failure, OSError) and failure.errno == errno.ENOMEM


def test_signals_of_the_group_are_the_ranks_to_answer(tmp_path: Path) -> None:
    with writer() as own:
        process = held(own, tmp_path / "first.pt")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            process.send_signal(number)
        process.resume()
        report = own.write(snapshot_of(tmp_path / "next.pt", {}), tmp_path).result(PATIENCE)
        assert report.failure is None and own.pid == process.pid
        assert os.getpgid(process.pid) == process.pid
        assert process.nice() == min(19, os.nice(0) + writer_process.NICENESS)


def die_with_a_writer(folder: Path) -> None:
    """End as a kill ends a rank, in the middle of a write: the process stands still in it."""
    own = Writer(Arena(torch.device("cpu")))
    process = held(own, folder / "first.pt")
    own.write(snapshot_of(folder / "second.pt", torch.zeros(10)), folder)
    (folder / "pid").write_text(str(process.pid))
    os.kill(os.getpid(), signal.SIGKILL)


def test_it_ends_with_its_rank(tmp_path: Path) -> None:
    rank = fork(die_with_a_writer, tmp_path)
    rank.join(PATIENCE)
    assert rank.exitcode == -signal.SIGKILL
    process = psutil.Process(int((tmp_path / "pid").read_text()))
    process.resume()
    process.wait(PATIENCE)
    assert not (tmp_path / "second.pt").exists()
