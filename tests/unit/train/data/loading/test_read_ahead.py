"""Batches read ahead are those that are read when needed, and their thread comes to an end."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.testing import assert_close

from tests.waiting import until
from train.data.loading.memmap import TokenFile
from train.data.loading.read_ahead import ReadAhead
from train.data.loading.rows import open_rows
from train.data.loading.sampler import RECENT, Batches

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_folder):
    documents = [list(range(100 * at, 100 * at + at % 9 + 1)) for at in range(1, 60)]
    return write_folder(tmp_path_factory.mktemp("a") / "p", documents, [[1, 2]])


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "read-ahead" in thread.name]


@pytest.mark.parametrize("form", ["packed", "padded"])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_same_batches_in_any_order(folder, form, ahead):
    def opened() -> Batches:
        return Batches([open_rows(TokenFile(folder, "train"), 8, form)], 7, 8)

    batches = opened()
    with ReadAhead(lambda k: batches.batch(k, 1, 2, 2), ahead, 40, CPU) as reader:
        for k in [*range(2 * RECENT), 5, 6, 39, 0]:
            ours = reader.batch(k)
            theirs = opened().batch(k, 1, 2, 2)
            assert [micro.scale for micro in ours] == [micro.scale for micro in theirs]
            for one, other in zip(ours, theirs, strict=True):
                assert_close(one.inputs, other.inputs, rtol=0, atol=0)
            assert batches.tokens(k) == opened().tokens(k)


def test_so_many_are_read_ahead_and_none_after_the_last():
    read: list[int] = []

    def read_batch(k):
        read.append(k)
        return []

    with ReadAhead(read_batch, 2, 6, CPU) as reader:
        reader.batch(0)
        until(lambda: read == [0, 1, 2], "batches 1 and 2")
        reader.batch(1)
        until(lambda: read == [0, 1, 2, 3], "batch 3")
        reader.batch(5)
    assert read == [0, 1, 2, 3, 5]
    with ReadAhead(read_batch, 0, 6, CPU) as reader:
        reader.batch(4)
        assert not threads()
    assert read[-1] == 4


def test_what_is_not_ready_is_not_read_ahead():
    read: list[int] = []
    ready = {1}

    def read_batch(k):
        read.append(k)
        return [k]

    with ReadAhead(read_batch, 2, 9, CPU, ready.__contains__) as reader:
        assert reader.batch(0) == [0]
        until(lambda: read == [0, 1], "batch 1")
        ready.update((2, 3))
        assert reader.batch(1) == [1]
        until(lambda: read == [0, 1, 2, 3], "batches 2 and 3")


def test_an_error_of_the_thread_comes_with_its_batch_and_no_sooner():
    failed = threading.Event()

    def read_batch(k):
        if k == 2:
            failed.set()
            raise OSError(5, "Input/output error")
        return [k]

    with ReadAhead(read_batch, 2, 9, CPU) as reader:
        assert reader.batch(0) == [0]
        assert failed.wait(60)
        assert reader.batch(1) == [1]
        with pytest.raises(OSError, match="Input/output error"):
            reader.batch(2)
    assert not threads()


def test_leaving_waits_for_what_is_read_and_begins_no_more():
    begun = threading.Event()
    go_on = threading.Event()
    read: list[int] = []

    def read_batch(k):
        if k:
            begun.set()
            assert go_on.wait(60)
        read.append(k)
        return []

    def leave():
        with ReadAhead(read_batch, 5, 9, CPU) as reader:
            reader.batch(0)
            assert begun.wait(60)
            threading.Timer(0, go_on.set).start()

    leave()
    assert not threads()
    assert read[:2] == [0, 1]
    with ReadAhead(lambda k: [k], 1, 9, CPU) as reader:  # and it can be entered again
        assert reader.batch(3) == [3]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_batches_are_pinned(folder):
    batches = Batches([open_rows(TokenFile(folder, "train"), 8, "packed")], 7, 8)
    device = torch.device("cuda", torch.cuda.current_device())
    for ahead in (0, 2):
        with ReadAhead(lambda k: batches.batch(k, 0, 1, 4), ahead, 9, device) as reader:
            for k in range(4):
                for micro, plain in zip(reader.batch(k), batches.batch(k, 0, 1, 4), strict=True):
                    assert all(tensor.is_pinned() for tensor in micro.inputs.values())
                    there = micro.to(device).to(torch.device("cpu"))
                    assert_close(there.inputs, plain.inputs, rtol=0, atol=0)
