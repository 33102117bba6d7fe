"""Corpora as iterators of documents: the running Python's library, files, or allenai/c4 streamed from the hub.

Every iterator is deterministic: the same source gives the same documents in the same order. A document is one source file
(stdlib), one line's `text` field (.json.gz, .jsonl, .jsonl.gz, .json; C4's own form), or one whole file (.txt, .txt.gz).
"""

from __future__ import annotations

import glob
import gzip
import json
import os
import platform
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from train.config import DataConfig
from train.data.quarantine import Quarantine
from train.errors import UserError

ROW_SUFFIXES = (".json.gz", ".jsonl.gz", ".jsonl", ".json")
TEXT_SUFFIXES = (".txt", ".txt.gz")
NOT_UTF8 = "not UTF-8"
GZIP_MAGIC = b"\x1f\x8b"
# Third-party packages are not the library; tests are repetitive and partly broken on purpose.
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})


@dataclass(frozen=True)
class Source:
    """A corpus that can be read more than once.

    Args:
        description: what it is, for people.
        identity: JSON-able facts that change when the documents do.
        documents: starts a new pass; unusable rows go to the quarantine.
        expected: number of documents where it is known beforehand, else 0.
    """

    description: str
    identity: Any
    documents: Callable[[Quarantine], Iterator[str]]
    expected: int = 0


def open_sources(config: DataConfig) -> tuple[Source, Source | None]:
    """The training source and the validation source; None means: hold documents out of the first.

    Runs the cheap checks of every file (present, not empty, form known) before anything is read.

    Raises:
        UserError: a path is missing, a glob matches nothing, a file is empty or of unknown form, or is in both splits.
    """
    if config.source == "files":
        if not config.files:
            raise UserError("data.source is files but data.files is empty; name at least one path or glob there.")
        training_paths = expand(config.files, "data.files")
    else:
        training_paths = []
    validation = None
    if config.validation_files:
        validation_paths = expand(config.validation_files, "data.validation_files")
        shared = {path.resolve() for path in training_paths} & {path.resolve() for path in validation_paths}
        if shared:
            raise UserError(
                f"{min(shared)} is in data.files and in data.validation_files; validation on training text means nothing: "
                "take it out of one of them."
            )
        validation = files_source(validation_paths)
    if config.source == "files":
        return files_source(training_paths), validation
    if config.source == "stdlib":
        return stdlib_source(), validation
    return c4_source("train"), validation or c4_source("validation")


# -- the running Python's own library ---------------------------------------------------------------------------------


def stdlib_paths() -> list[Path]:
    """Source files of the running Python's library, sorted, without tests, third-party packages and empty files."""
    root = sysconfig.get_path("stdlib")
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    # Empty __init__.py files are normal here, not bad rows.
    return sorted(path for path in found if path.stat().st_size > 0)


def stdlib_source() -> Source:
    """The running Python's library as a source; its identity is the Python version and the files' names and sizes."""
    root, paths = Path(sysconfig.get_path("stdlib")), stdlib_paths()
    if not paths:
        raise UserError(f"This Python has no library sources under {root}; set data.source to files and name text in data.files.")
    version = f"{platform.python_implementation()} {platform.python_version()}"
    # Times are left out on purpose: the same Python in another container is the same corpus.
    sizes = [[path.relative_to(root).as_posix(), path.stat().st_size] for path in paths]
    return Source(
        f"standard library of {version}", ["stdlib", version, sizes], lambda quarantine: _whole_files(paths, quarantine), len(paths)
    )


def _whole_files(paths: list[Path], quarantine: Quarantine) -> Iterator[str]:
    for path in paths:
        text = _whole_text(path, path.read_bytes(), quarantine)
        if text is not None:
            yield text


# -- files ------------------------------------------------------------------------------------------------------------


def expand(patterns: tuple[str, ...], key: str) -> list[Path]:
    """Files named by paths and globs, each once, in the order of the patterns and sorted within a glob.

    Args:
        patterns: paths or globs (`**` recurses); a path that exists is never read as a glob.
        key: the configuration key, for messages.

    Raises:
        UserError: nothing there, an empty file, a folder, an unknown form, or a .gz that is not gzip.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        pattern = os.path.expanduser(pattern)
        if os.path.exists(pattern):
            matches = [pattern]
        elif glob.has_magic(pattern):
            matches = sorted(match for match in glob.glob(pattern, recursive=True) if os.path.isfile(match))
            if not matches:
                raise UserError(f"{key}: no file matches {pattern!r} (from {os.getcwd()}); correct the pattern or get the corpus.")
        else:
            raise UserError(f"{key}: {pattern} does not exist (from {os.getcwd()}); correct the path or get the corpus.")
        for match in matches:
            _check_cheaply(Path(match), key)
            paths[Path(match)] = None
    return list(paths)


def _check_cheaply(path: Path, key: str) -> None:
    if path.is_dir():
        raise UserError(f"{key}: {path} is a folder; name the files in it, for example {path}/*.json.gz.")
    if not path.name.endswith(ROW_SUFFIXES + TEXT_SUFFIXES):
        raise UserError(f"{key}: {path} has no known ending; use one of {', '.join(ROW_SUFFIXES + TEXT_SUFFIXES)}.")
    if path.stat().st_size == 0:
        raise UserError(f"{key}: {path} is empty (0 bytes); get it again or take it out of {key}.")
    try:
        with open(path, "rb") as file:
            start = file.read(2)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read ({error.strerror}); mend its permissions or take it out of {key}.") from error
    if path.suffix == ".gz" and start != GZIP_MAGIC:
        raise UserError(f"{key}: {path} is not gzip although its name ends in .gz; get it again or rename it.")


def files_source(paths: list[Path]) -> Source:
    """Checked files as a source; its identity is their absolute paths, sizes and modification times."""
    stats = [(path, path.stat()) for path in paths]
    identity = ["files", [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]]
    shown = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, {paths[0]} first"
    return Source(shown, identity, lambda quarantine: _file_documents(paths, quarantine))


def _file_documents(paths: list[Path], quarantine: Quarantine) -> Iterator[str]:
    for path in paths:
        good, bad_before = 0, quarantine.set_aside
        try:
            with cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else open(path, "rb") as file:
                for text in _texts(path, file, quarantine):
                    good += 1
                    yield text
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                f"{path} is truncated or corrupt: {good} documents could be read before gzip gave up ({error}). "
                f"Get the file again; `gzip -t {path}` checks it."
            ) from error
        bad = quarantine.set_aside - bad_before
        # A text file in another encoding is a bad row like any other, for it is its file's only one.
        if good == 0 and not (bad and path.name.endswith(TEXT_SUFFIXES) and quarantine.last_reason == NOT_UTF8):
            detail = f"; {bad} rows were set aside ({quarantine.last_reason})" if bad else ""
            raise UserError(f"{path} holds no documents{detail}. Get it again or take it out of the configuration.")


def _texts(path: Path, file: IO[bytes], quarantine: Quarantine) -> Iterator[str]:
    if path.name.endswith(TEXT_SUFFIXES):
        text = _whole_text(path, file.read(), quarantine)
        if text is not None:
            yield text
        return
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue  # a blank line is layout, not a row
        try:
            text = row_text(line)
        except ValueError as error:
            quarantine.reject(str(path), number, str(error))
            continue
        quarantine.accept()
        yield text


def row_text(line: bytes) -> str:
    """The text of one JSON row. Raises ValueError, whose message is the reason, where there is none to use."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(NOT_UTF8) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(row, dict) or "text" not in row:
        raise ValueError("no text field")
    return checked_text(row["text"])


def checked_text(text: object) -> str:
    """The text itself. Raises ValueError, whose message is the reason, if it is null, empty, not a string or not Unicode."""
    if text is None:
        raise ValueError("text is null")
    if not isinstance(text, str):
        raise ValueError("text is not a string")
    if not text.strip():
        raise ValueError("text is empty")
    try:
        text.encode("utf-8")  # an escape such as \ud800 is valid JSON but no character
    except UnicodeEncodeError as error:
        raise ValueError("text has a lone surrogate, not UTF-8") from error
    return text


def _whole_text(path: Path, content: bytes, quarantine: Quarantine) -> str | None:
    try:
        text = checked_text(content.decode("utf-8"))
    except UnicodeDecodeError:
        quarantine.reject(str(path), 0, NOT_UTF8)
        return None
    except ValueError as error:
        quarantine.reject(str(path), 0, str(error))
        return None
    quarantine.accept()
    return text


# -- allenai/c4 -------------------------------------------------------------------------------------------------------


def c4_source(split: str, revision: str | None = None) -> Source:
    """English C4 from the hub.

    Args:
        split: train or validation.
        revision: commit or tag of the dataset that pins it; None takes the newest.
    """
    pinned = f"@{revision}" if revision else ""
    return Source(
        f"allenai/c4 en {split}{pinned}", ["c4", "en", split, revision], lambda quarantine: c4_documents(split, revision, quarantine)
    )


def c4_documents(split: str, revision: str | None, quarantine: Quarantine) -> Iterator[str]:
    """Stream allenai/c4 `en`. Raises UserError when `datasets` is missing or the hub cannot be read."""
    try:
        from datasets import load_dataset  # only preparation from the hub needs it
    except ImportError as error:
        raise UserError("Streaming allenai/c4 needs the datasets package; install it or set data.source to files.") from error
    name = f"allenai/c4 en/{split}"
    try:
        rows = iter(load_dataset("allenai/c4", "en", split=split, streaming=True, revision=revision))
    except Exception as error:  # the hub's clients raise dozens of unrelated types when a network is missing
        raise _c4_unreadable(name, error) from error
    number = 0
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise _c4_unreadable(name, error) from error
        if row is None:
            return
        number += 1
        try:
            text = checked_text(row.get("text"))
        except ValueError as error:
            quarantine.reject(name, number, str(error))
            continue
        quarantine.accept()
        yield text


def _c4_unreadable(name: str, error: Exception) -> UserError:
    return UserError(
        f"{name} cannot be read from the hub ({type(error).__name__}: {error}). Check the network and HF_ENDPOINT, or download its "
        ".json.gz files, set data.source to files and name them in data.files."
    )
