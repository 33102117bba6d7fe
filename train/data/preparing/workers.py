"""Encodes chunks in their order, in this process or in several.

Their number changes the time and nothing else.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from train.data.preparing.encode import Encoded, Plan, encode_chunk
from train.data.sources.chunks import Chunk
from train.data.tokenizers.load import AnyTokenizer, load_prepared
from train.errors import UserError
from train.system.cpu_count import cpu_count

WORTH_PROCESSES = 8  # chunks; fewer are done before processes have started
AHEAD = 2  # chunks read ahead for each worker

_tokenizer: AnyTokenizer | None = None  # of a worker process


def encode_all(
    chunks: Iterator[Chunk], tokenizer: AnyTokenizer, folder: Path, plan: Plan, workers: int
) -> Iterator[tuple[Chunk, Encoded]]:
    """Yield every chunk with its result, in order.

    Args:
        tokenizer: the one in folder.
        folder: where workers load the tokenizer from.
        workers: processes; 0 means as many as cores, 1 starts none.

    Raises:
        UserError: a worker was killed.
    """
    workers = workers or cpu_count()
    head = list(islice(chunks, WORTH_PROCESSES))
    chunks = chain(head, chunks)
    if workers == 1 or len(head) < WORTH_PROCESSES:
        tokenizer.threads = workers
        for chunk in chunks:
            yield chunk, encode_chunk(chunk, tokenizer, plan)
        return
    # Not fork: the parent may hold a GPU, a process group and their threads.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(str(folder),)
    )
    try:
        yield from _in_order(pool, chunks, plan, AHEAD * workers)
    except BrokenProcessPool as error:
        raise UserError(
            "A worker of the preparation was killed, perhaps for memory; lower data.workers. The "
            "same command again goes on from what was prepared."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, chunks: Iterator[Chunk], plan: Plan, ahead: int
) -> Iterator[tuple[Chunk, Encoded]]:
    waiting: deque[tuple[Chunk, Future[Encoded]]] = deque()
    for chunk in chunks:
        waiting.append((chunk, pool.submit(_encode, chunk, plan)))
        if len(waiting) > ahead:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()


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
