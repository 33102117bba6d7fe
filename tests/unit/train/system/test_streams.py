"""A stream without a reader."""

import os

import pytest

from train.system.streams import PipeSafeStream


def test_a_closed_pipe_is_survived_and_an_open_one_written():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", buffering=1) as plain:
        stream = PipeSafeStream(plain)
        print("heard", file=stream, flush=True)
        assert os.read(reader, 100) == b"heard\n"
        os.close(reader)
        for _ in range(3):
            print("lost", file=stream, flush=True)
        assert not stream.isatty() and stream.fileno() == writer
        with pytest.raises(BrokenPipeError):  # so the silence was ours
            plain.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # lets the file close
