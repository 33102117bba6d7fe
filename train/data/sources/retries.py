"""Goes on with a stream after an error of the network, after growing pauses that are told."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from train.data.sources.chunks import Chunk
from train.errors import Stopped, UserError

# Seconds before each further try; after a chunk that came they are counted anew. The hub's client
# has made its own quick tries by then.
PAUSES = (2.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# By name, since the clients that define them are not imported here: no further try would help.
_FINAL = (
    "DatasetNotFoundError",
    "EntryNotFoundError",
    "GatedRepoError",
    "OfflineModeIsEnabled",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
)
_FINAL_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_HTTP_ERROR = "HTTPError"  # httpx and requests, and what the hub's client makes of theirs
_WORTH_IT = (408, 425, 429)  # of the answers below 500

Read = Callable[[dict[str, Any] | None], Iterator[Chunk]]


def with_retries(read: Read, start: dict[str, Any] | None, name: str) -> Iterator[Chunk]:
    """Yield the chunks of a stream, each once, opening it again where it broke off.

    Args:
        read: opens it at a chunk's `after`.
        start: where to begin.
        name: of the stream, for messages.

    Raises:
        UserError: it cannot be read, and no further try would help or has helped.
    """
    failures = 0
    while True:
        try:
            for chunk in read(start):
                failures = 0
                start = chunk.after
                yield chunk
            return
        except (UserError, Stopped):
            raise
        # The hub's clients raise dozens of unrelated types when a network is missing.
        except Exception as error:
            if failures == len(PAUSES) or not may_pass(error):
                raise _unreadable(name, error, failures) from error
            pause = PAUSES[failures]
            failures += 1
            print(
                f"{name}: {_short(error)}; trying again in {pause:g} s "
                f"({failures} of {len(PAUSES)})",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(pause)


def may_pass(error: BaseException) -> bool:
    """Return whether an error, or one that led to it, is of a kind that goes by itself."""
    chain = list(_chain(error))
    if any(_is_final(each) for each in chain):
        return False
    return any(
        isinstance(each, OSError | EOFError) or _HTTP_ERROR in _class_names(each) for each in chain
    )


def _is_final(error: BaseException) -> bool:
    if _class_names(error) & set(_FINAL):
        return True
    if isinstance(error, OSError) and error.errno in _FINAL_NUMBERS:
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in _WORTH_IT


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _class_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _unreadable(name: str, error: Exception, tries: int) -> UserError:
    tried = f", after {tries} further tries" if tries else ""
    return UserError(
        f"{name} cannot be read from the hub ({_short(error)}){tried}. Check the "
        "network, data.revision and HF_ENDPOINT, name the folder of a copy in data.repository, or "
        "set data.source to files and name its .json.gz files in data.files. The same command "
        "again goes on from what was prepared."
    )


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
