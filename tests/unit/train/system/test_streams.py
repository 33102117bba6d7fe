"""A stream without a reader."""

import io
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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_letter_that_the_console_does_not_know_is_printed_as_another(encoding):
    raw = io.BytesIO()
    plain = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    with pytest.raises(UnicodeEncodeError):
        plain.write("1 \u2192 2")
    stream = PipeSafeStream(plain)
    print("1 \u2192 2", file=stream, flush=True)
    assert raw.getvalue() == b"1 ? 2\n"


def test_what_a_console_knows_is_printed_as_it_is():
    raw = io.BytesIO()
    stream = PipeSafeStream(io.TextIOWrapper(raw, encoding="utf-8"))
    print("1 \u2192 2", file=stream, flush=True)
    assert raw.getvalue().decode() == "1 \u2192 2\n"
