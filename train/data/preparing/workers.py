"""Encodes the chunks of a source in their order: in this process, in its threads, or in several.

Which of them changes the time and nothing else. Tokenizers let go of Python's lock, so that a few
threads keep as many cores busy, on one copy of everything; what Python itself does keeps more from
gaining. On more cores a corpus of many files has a reader a process, see lanes.py; one that cannot
be read in several places at once is read here, and processes encode it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from train.data.preparing.encode import Encoded, Plan, encode_chunk
from train.data.preparing.lanes import can_have_lanes, in_lanes
from train.data.sources.chunks import Chunk
from train.data.sources.source import Source
from train.data.tokenizers.load import AnyTokenizer, load_prepared
from train.errors import UserError
from train.system.cpu_count import cpu_count

THREADS = 4  # encoding in one process; about one core in seven is Python's own
WORTH_PROCESSES = 8  # chunks; fewer are done before processes have started
AHEAD = 2  # chunks read ahead for each process that only encodes

_tokenizer: AnyTokenizer | None = None  # of a worker process


def encode_all(
    source: Source,
    start: dict[str, Any] | None,
    tokenizer: AnyTokenizer,
    folder: Path,
    plan: Plan,
    workers: int,
) -> Iterator[tuple[Chunk, Encoded]]:
    """Yield every chunk with its result, in order. Chunks that were read elsewhere have no rows.

    Args:
        start: a chunk's `after`; None starts at the beginning.
        tokenizer: the one in folder.
        folder: where processes load the tokenizer from, and leave what they make.
        workers: cores to use; 0 means all.

    Raises:
        UserError: a process was killed.
    """
    workers = workers or cpu_count()
    tokenizer.threads = 1
    encode = partial(encode_chunk, tokenizer=tokenizer, plan=plan)
    if workers == 1:
        yield from ((chunk, encode(chunk)) for chunk in source.chunks(start))
    elif workers <= THREADS:
        with ThreadPoolExecutor(workers) as threads:
            yield from in_order(threads, encode, source.chunks(start), workers + 1)
    elif can_have_lanes(source, start):
        lanes = -(-workers // THREADS)
        with _processes(lanes, folder) as pool:
            job = partial(_encode_in_threads, plan=plan, threads=-(-workers // lanes))
            yield from in_lanes(pool, lanes, job, source, start, folder)
    else:
        chunks = source.chunks(start)
        head = list(islice(chunks, WORTH_PROCESSES))
        if len(head) < WORTH_PROCESSES:
            yield from ((chunk, encode(chunk)) for chunk in head)
            return
        with _processes(workers, folder) as pool:
            encode = partial(_encode, plan=plan)
            yield from in_order(pool, encode, chain(head, chunks), AHEAD * workers)


def in_order(
    pool: Executor, encode: Callable[[Chunk], Encoded], chunks: Iterator[Chunk], ahead: int
) -> Iterator[tuple[Chunk, Encoded]]:
    """Yield chunks with their results, in order, at most `ahead` of them under way."""
    waiting: deque[tuple[Chunk, Future[Encoded]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(encode, chunk)))
            if len(waiting) > ahead:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:  # where nobody wants the rest
        for _, future in waiting:
            future.cancel()


@contextmanager
def _processes(count: int, folder: Path) -> Iterator[ProcessPoolExecutor]:
    # Not fork: the parent may hold a GPU, a process group and their threads.
    pool = ProcessPoolExecutor(
        count, mp_context=get_context("spawn"), initializer=_begin, initargs=(str(folder),)
    )
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            "A worker of the preparation was killed, perhaps for memory; lower data.workers. The "
            "same command again goes on from what was prepared."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(folder: str) -> None:
    """Prepare a worker process: load the tokenizer, and leave Ctrl-C to the parent.

    The worker ends with its parent, however that ends.
    """
    global _tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _tokenizer = load_prepared(folder)
    _tokenizer.threads = 1


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        # Nobody reads this worker's queue any more, and it would wait there for ever.
        os._exit(1)


def _encode(chunk: Chunk, plan: Plan) -> Encoded:
    assert _tokenizer is not None
    return encode_chunk(chunk, _tokenizer, plan)


def _encode_in_threads(
    chunks: Iterator[Chunk], plan: Plan, threads: int
) -> Iterator[tuple[Chunk, Encoded]]:
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, partial(_encode, plan=plan), chunks, threads + 1)
