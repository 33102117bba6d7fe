"""Reads every image of a set once, before training, and remembers what was found.

An image that cannot be decoded is set aside with the reason; the others are known by a digest of
their bytes from then on. A second look reads only what has another size or time than before.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from train.data.images.pillow import read_image
from train.errors import UserError
from train.system.cpu_count import cpu_count
from train.system.files import write_atomically

_SECONDS_BETWEEN_LINES = 5.0
_AT_ONCE = 4096  # images handed to the threads together


@dataclass(frozen=True)
class Stamp:
    """What tells that a file is not what it was, without reading it.

    Args:
        size: bytes.
        modified: nanoseconds.
    """

    size: int
    modified: int


@dataclass(frozen=True)
class Entry:
    """An image as it was found.

    Args:
        name: within its set.
        size: as its stamp.
        modified: as its stamp.
        digest: of its bytes.
        fault: why it cannot be decoded; empty where it can.
    """

    name: str
    size: int
    modified: int
    digest: str
    fault: str = ""


@dataclass(frozen=True)
class Found:
    """Images that are there.

    Args:
        title: of the set, for a person.
        stamps: of each image, by its name.
        read: returns an image's bytes by its name; OSError where that fails.
    """

    title: str
    stamps: dict[str, Stamp]
    read: Callable[[str], bytes]


def verified(found: Found, file: Path, workers: int = 0) -> list[Entry]:
    """Return an entry for every image, by name, and keep them in `file`.

    Interrupted, it keeps what it has, and goes on from there the next time.

    Args:
        workers: threads; 0 means as many as cores.

    Raises:
        UserError: `file` cannot be written.
    """
    known = {entry.name: entry for entry in load(file)} if file.is_file() else {}
    kept = {name: entry for name, entry in known.items() if _is_still(entry, found.stamps)}
    fresh = sorted(found.stamps.keys() - kept.keys())
    if not fresh and len(kept) == len(known):
        return [kept[name] for name in sorted(kept)]
    try:
        for entry in _looked_at(found, fresh, workers or cpu_count()):
            kept[entry.name] = entry
    finally:
        entries = [kept[name] for name in sorted(kept)]
        _keep(entries, file)
    return entries


def load(file: Path) -> list[Entry]:
    """Read the entries that `verified` has kept; none where the file is no such thing."""
    entries: list[Entry] = []
    with suppress(ValueError, TypeError):
        for line in file.read_text(encoding="utf-8").splitlines():
            entries.append(Entry(**json.loads(line)))
    return entries


def good_ones(entries: Sequence[Entry], title: str, most: float, key: str) -> list[Entry]:
    """Return the entries of images that can be read, and say how many cannot.

    Args:
        title: of the set, for a person.
        most: share of the images that may be bad.
        key: of the setting that limits it.

    Raises:
        UserError: more are bad.
    """
    bad = [entry for entry in entries if entry.fault]
    if not bad:
        return list(entries)
    first = f"{bad[0].name} ({bad[0].fault})"
    said = f"{title}: {len(bad):,} of {len(entries):,} images cannot be read, the first {first}"
    if len(bad) > most * len(entries):
        raise UserError(f"{said}; more than {key} = {most:g} allows: mend or remove them")
    print(f"{said}; they are set aside", file=sys.stderr, flush=True)
    return [entry for entry in entries if not entry.fault]


def _looked_at(found: Found, names: Sequence[str], workers: int) -> Iterable[Entry]:
    last = started = time.monotonic()
    done = 0
    with ThreadPoolExecutor(workers, "verify") as pool:
        try:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                for entry in pool.map(lambda name: _look(found, name), some):
                    yield entry
                    done += 1
                    if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                        last = time.monotonic()
                        line = f"{found.title}: {done:,} of {len(names):,} images verified"
                        print(f"{line}, {last - started:.0f} s", file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _look(found: Found, name: str) -> Entry:
    stamp = found.stamps[name]
    digest = fault = ""
    try:
        content = found.read(name)
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        read_image(content)
    except OSError as error:
        fault = error.strerror or type(error).__name__
    except ValueError as error:
        fault = f"{error}"
    return Entry(name, stamp.size, stamp.modified, digest, fault)


def _is_still(entry: Entry, stamps: dict[str, Stamp]) -> bool:
    return stamps.get(entry.name) == Stamp(entry.size, entry.modified)


def _keep(entries: Sequence[Entry], file: Path) -> None:
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, lines)
    except OSError as error:
        raise UserError(f"data.directory: cannot write {file}: {error.strerror}") from error
