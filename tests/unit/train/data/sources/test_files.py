"""Files as sources: what they yield, and what each kind of bad input says."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import random
from pathlib import Path

import pytest

from train.config import DataConfig
from train.data.sources import chunks
from train.data.sources.chunks import Refused, row_text
from train.data.sources.files import expand, files_source
from train.data.sources.quarantine import Quarantine
from train.data.sources.registry import open_sources
from train.errors import UserError


def read(path: Path, quarantine: Quarantine | None = None) -> list[str]:
    return list(files_source([path]).documents(quarantine or Quarantine(None, 1.0)))


@pytest.mark.parametrize("name", ["a.json.gz", "a.jsonl", "a.jsonl.gz", "a.json"])
def test_rows_come_back_in_order_from_every_form(name, write_rows):
    texts = ["one\n two", "é 日本 😀", " three "]
    assert read(write_rows(name, texts)) == texts


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_text_file_is_one_document_to_the_byte(name, tmp_path):
    text = "one\r\n\r\n\ttwo\n\n"
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read(tmp_path / name) == [text]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz", "a.txt", "a.txt.gz"])
def test_a_byte_order_mark_is_no_part_of_a_file(name, tmp_path):
    text = "one" if ".txt" in name else '{"text": "one"}\n{"text": "two"}\n'
    content = codecs.BOM_UTF8 + text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    quarantine = Quarantine(None, 0.0)
    assert read(tmp_path / name, quarantine) == (["one"] if ".txt" in name else ["one", "two"])


def test_byte_order_marks_of_files_that_were_joined(tmp_path):
    part = codecs.BOM_UTF8 + b'{"text": "one"}\n' + codecs.BOM_UTF8 + b"\n"
    (tmp_path / "a.jsonl").write_bytes(part * 2)
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(part) * 2)
    quarantine = Quarantine(None, 0.0)
    for name in ("a.jsonl", "b.json.gz"):
        assert read(tmp_path / name, quarantine) == ["one", "one"]


def test_one_file_under_several_names_is_read_once_and_said(write_rows, tmp_path, monkeypatch):
    path = write_rows("a.jsonl", ["one", "two"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.jsonl").symlink_to(path)
    os.link(path, tmp_path / "hard.jsonl")
    for patterns in (("a.jsonl", str(path)), ("*.jsonl",), ("hard.jsonl", "link.jsonl")):
        source = files_source(expand(patterns, "data.files"))
        assert list(source.documents(Quarantine(None, 0.0))) == ["one", "two"]
        first, *others = expand(patterns, "data.files")
        assert source.files == (first,)
        assert source.notes == tuple(
            f"{other} is the same file as {first}; it is read once" for other in others
        )


def test_blank_lines_are_not_rows(write_rows):
    quarantine = Quarantine(None, 0.0)
    assert read(write_rows("a.jsonl", ["one", b"", b"  ", "two"]), quarantine) == ["one", "two"]
    assert (quarantine.rows, quarantine.set_aside) == (2, 0)


BAD_ROWS = {
    b"{oops": "not JSON",
    b'"just a string"': "no text field",
    b'{"url": "x"}': "no text field",
    b'{"text": null}': "text is null",
    b'{"text": ""}': "text is empty",
    b'{"text": " \\n"}': "text is empty",
    b'{"text": 3}': "text is not a string",
    b'{"text": "\xff"}': "not UTF-8",
    b'{"text": "\\ud800"}': "text has a lone surrogate, not UTF-8",
}


@pytest.mark.parametrize(("line", "reason"), BAD_ROWS.items())
def test_every_kind_of_bad_row_has_its_reason(line, reason):
    with pytest.raises(ValueError) as caught:
        row_text("json", line)
    assert str(caught.value) == reason


def test_bad_rows_are_set_aside_with_file_line_and_reason(write_rows):
    path = write_rows("a.json.gz", ["good", *BAD_ROWS, "good too"])
    lines: list[bytes] = []
    quarantine = Quarantine(lines.append, 1.0)
    assert read(path, quarantine) == ["good", "good too"]
    written = [json.loads(line) for line in lines]
    assert written == [
        {"file": str(path), "line": 2 + at, "reason": reason}
        for at, reason in enumerate(BAD_ROWS.values())
    ]
    assert (quarantine.rows, quarantine.set_aside) == (2 + len(BAD_ROWS), len(BAD_ROWS))


def test_too_many_bad_rows_stop_a_long_reading_early(write_rows):
    path = write_rows("a.jsonl", ["good"] * 980 + [b"{oops"] * 20 + ["good"] * 5000)
    quarantine = Quarantine(None, 0.01)
    with pytest.raises(
        UserError,
        match=r"20 of 1000 rows .*\(2.0%, data.max_bad_fraction allows 1.0%\)"
        r".*a.jsonl:981: not JSON",
    ):
        read(path, quarantine)
    assert quarantine.rows == 1000


def test_few_bad_rows_among_many_are_tolerated(write_rows):
    quarantine = Quarantine(None, 0.01)
    assert len(read(write_rows("a.jsonl", ["good"] * 1990 + [b"{oops"] * 10), quarantine)) == 1990
    quarantine.check()


def test_a_bad_row_early_on_waits_for_the_end():
    quarantine = Quarantine(None, 0.01)
    quarantine.reject("a", 1, "not JSON")
    with pytest.raises(UserError, match="1 of 1 rows"):
        quarantine.check()


def test_missing_path_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"data.files: .*nowhere.json.gz does not exist .*correct the path"
    ):
        expand((str(tmp_path / "nowhere.json.gz"),), "data.files")


def test_glob_without_match_is_named(tmp_path):
    with pytest.raises(UserError, match=r"data.validation_files: no file matches '.*\*.json.gz'"):
        expand((str(tmp_path / "*.json.gz"),), "data.validation_files")


def test_empty_file_anywhere_in_the_list_stops_before_reading(write_rows, tmp_path):
    write_rows("a.jsonl", ["good"])
    (tmp_path / "b.jsonl").touch()
    with pytest.raises(UserError, match=r"b.jsonl is empty \(0 bytes\); get it again"):
        open_sources(DataConfig(source="files", files=(str(tmp_path / "*.jsonl"),)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.parquet", r"no known ending; use one of \.json\.gz"),
        ("a.json.gz", "is not gzip although"),
        ("", "is a folder; name"),
    ],
)
def test_files_of_the_wrong_kind(name, message, tmp_path):
    path = tmp_path / name
    if name:
        path.write_bytes(b"plain")
    with pytest.raises(UserError, match=message):
        expand((str(path),), "data.files")


def test_the_same_file_in_both_splits_is_refused(write_rows):
    path = write_rows("a.jsonl", ["good"])
    other = path.with_name("hard.jsonl")
    os.link(path, other)
    for name in (str(path), str(other)):
        config = DataConfig(source="files", files=(str(path),), validation_files=(name,))
        with pytest.raises(UserError, match=r"is in data.files and in data.validation_files"):
            open_sources(config)


@pytest.mark.parametrize(
    "content",
    [b"\n\n", b"{oops\n", gzip.compress(b"")],
    ids=["blank lines", "no JSON", "empty gzip"],
)
def test_file_without_documents(content, tmp_path):
    path = tmp_path / ("a.json.gz" if content.startswith(b"\x1f") else "a.jsonl")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.json(l|.gz) holds no documents"):
        read(path)


def last_chunk(path: Path):
    *_, chunk = files_source([path]).chunks(None)
    return chunk


def test_truncated_and_corrupt_gzip_are_noticed_where_they_end(write_rows, documents):
    path = write_rows("a.json.gz", documents)
    whole = path.read_bytes()
    assert last_chunk(path).broken == ""
    path.write_bytes(whole[:-200])
    assert "end-of-stream" in last_chunk(path).broken and last_chunk(path).ends == str(path)
    assert 100 < len(read(path)) < 200
    path.write_bytes(
        whole[: len(whole) // 2]
        + bytes([whole[len(whole) // 2] ^ 0xFF])
        + whole[len(whole) // 2 + 1 :]
    )
    assert last_chunk(path).broken != ""


@pytest.mark.parametrize("name", ["a.json.gz", "a.txt.gz"])
def test_stray_bytes_after_a_good_gzip_are_set_aside_alone(name, tmp_path):
    path = tmp_path / name
    content = b"one" if ".txt" in name else b'{"text": "one"}\n'
    path.write_bytes(gzip.compress(content) + b"\0" * 600_000)
    strict = Quarantine(None, 0.0)
    assert read(path, strict) == ["one"]  # padding, as of a tape, is not even that
    path.write_bytes(gzip.compress(content) + b"\0" * 3 + b"<html>")
    lines: list[bytes] = []
    assert read(path, Quarantine(lines.append, 1.0)) == ["one"]
    assert [json.loads(line) for line in lines] == [
        {"file": str(path), "line": 0, "reason": "bytes after the end of the gzip data"}
    ]


def test_a_damaged_header_of_a_second_member_is_no_stray_byte(write_rows, documents):
    path = write_rows("a.json.gz", documents)
    part = path.read_bytes()
    path.write_bytes(part + part)
    assert read(path) == documents * 2
    path.write_bytes(part + b"\0" + part[1:])
    assert f"{len(part) - 1:,} bytes after" in last_chunk(path).broken
    for cut in (1, 2, 5):
        path.write_bytes(part + part[:cut])
        assert "end-of-stream" in last_chunk(path).broken


def test_a_gzip_of_many_read_blocks_comes_back_whole(tmp_path):
    line = json.dumps({"text": random.Random(0).randbytes(300_000).hex()}).encode() + b"\n"
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(line * 5, 1))
    found = [row[2] for chunk in files_source([tmp_path / "a.json.gz"]).chunks(None)
             for row in chunk.rows]  # fmt: skip
    assert found == [line] * 5


def test_rows_above_the_limit_are_refused_and_the_next_ones_read(write_rows, tmp_path):
    texts = ["one", "x" * 300, "two", "y" * 3_000_000, "three", "z" * 85, "z" * 400]
    for name in ("a.jsonl", "a.json.gz"):
        found = [
            row
            for chunk in files_source([write_rows(name, texts)], 110).chunks(None)
            for row in chunk.rows
        ]
        refused = [
            (line, str(content)) for _, line, content in found if isinstance(content, Refused)
        ]
        assert refused == [(line, "longer than data.max_row_bytes = 110") for line in (2, 4, 7)]
        quarantine = Quarantine(None, 1.0)
        assert list(files_source([tmp_path / name], 110).documents(quarantine)) == [
            "one",
            "two",
            "three",
            "z" * 85,
        ]
        assert quarantine.reasons == {"longer than data.max_row_bytes = 110": 3}
        assert read(tmp_path / name) == texts


def test_a_line_as_long_as_the_limit_is_taken(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "abc"}\n{"text": "abcd"}\n{"text": "abc"}')
    assert list(files_source([tmp_path / "a.jsonl"], 15).documents(Quarantine(None, 1.0))) == [
        "abc",
        "abc",
    ]


def test_whole_files_above_the_limit_and_broken_ones_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 100)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"y" * 50)[:-9])
    (tmp_path / "c.txt").write_text("good")
    quarantine = Quarantine(None, 1.0)
    paths = [tmp_path / name for name in ("a.txt", "b.txt.gz", "c.txt")]
    assert list(files_source(paths, 99).documents(quarantine)) == ["good"]
    assert quarantine.reasons == {
        "longer than data.max_row_bytes = 99": 1,
        "truncated or corrupt gzip": 1,
    }


@pytest.mark.parametrize(
    "names",
    [("a.jsonl", "b.json.gz", "c.txt", "d.txt", "e.json.gz"), ("a.txt", "b.txt.gz", "c.jsonl")],
)
def test_reading_goes_on_after_any_chunk(names, write_rows, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 700)
    for at, name in enumerate(names):
        if ".txt" in name:
            content = f"text {at}".encode() * 100
            (tmp_path / name).write_bytes(
                gzip.compress(content) if name.endswith("gz") else content
            )
        else:
            write_rows(name, [*sentences(10, seed=at), b"", b"{oops", *sentences(3, seed=10 + at)])
    source = files_source([tmp_path / name for name in names])
    whole = list(source.chunks(None))
    assert len(whole) > 2 * len(names) - 3
    for at, chunk in enumerate(whole):
        again = json.loads(json.dumps(chunk.after))  # as it comes back from state.json
        rest = list(source.chunks(again))
        assert [each.rows for each in rest] == [each.rows for each in whole[at + 1 :]]
        assert [(each.begins, each.ends) for each in rest] == [
            (each.begins, each.ends) for each in whole[at + 1 :]
        ]


def test_text_in_another_encoding_is_a_bad_row_not_the_end(tmp_path):
    (tmp_path / "a.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "b.txt").write_text("good")
    quarantine = Quarantine(None, 0.5)
    assert list(files_source([tmp_path / "a.txt", tmp_path / "b.txt"]).documents(quarantine)) == [
        "good"
    ]
    assert (quarantine.set_aside, quarantine.last_reason) == (1, "not UTF-8")


def test_globs_expand_sorted_and_once(write_rows, tmp_path):
    paths = [write_rows(name, ["x"]) for name in ("b.jsonl", "a.jsonl", "c[1].jsonl")]
    found = expand((str(paths[0]), str(tmp_path / "*.jsonl"), str(paths[2])), "data.files")
    assert [path.name for path in found] == ["b.jsonl", "a.jsonl", "c[1].jsonl"]


def test_identity_follows_the_file(write_rows):
    first = files_source([write_rows("a.jsonl", ["one"])]).identity
    assert files_source([write_rows("a.jsonl", ["one, changed"])]).identity != first


def test_real_c4_rows(shared):
    [path] = expand((str(shared / "corpora/c4/*.json.gz"),), "data.files")
    quarantine = Quarantine(None, 0.0)
    documents = read(path, quarantine)
    assert len(documents) == quarantine.rows == 1000
    assert documents[0].startswith("Beginners BBQ Class Taking Place in Missoula!\n")
