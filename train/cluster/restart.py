"""Starts every rank of a run again, each as a fresh program in its own process.

A rank that fails may be the only one: the others then wait for it within a collective, on the host
or in a kernel, and would until its timeout. So a thread of each rank looks for a note in the store
in which the ranks met. Once all have seen it, each replaces its program by the same command (exec).
The process stays, so that launchers, locks and terminals notice nothing; everything else is from
scratch, memory and random states included.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from train.cluster.distributed import World

_COUNT = "ALPHADECAY_RESTARTS"
_KEY = "alphadecay/restart/"
_POLL = 0.5  # seconds
_PATIENCE = timedelta(seconds=120)  # a rank may be compiling, or read a large file
_DESCRIPTORS = Path("/proc/self/fd")


def restarts() -> int:
    """Return how often this run has started again."""
    return int(os.environ.get(_COUNT, "0"))


def open_descriptors() -> frozenset[int]:
    """Return the files that this process has open; none where the system does not tell."""
    if not _DESCRIPTORS.is_dir():
        return frozenset()
    return frozenset(int(path.name) for path in _DESCRIPTORS.iterdir())


class Restart:
    """The readiness of a rank to start again.

    Args:
        world: this rank.
        inherited: files that were open when the program began, and stay open.
    """

    def __init__(self, world: World, inherited: frozenset[int]) -> None:
        self._world = world
        self._inherited = inherited
        self._over = threading.Event()
        self._leaving = threading.Lock()
        self._store: Any = None
        if world.size > 1:
            self._store = _own_connection()
            threading.Thread(target=self._watch, daemon=True).start()

    def stop_watching(self) -> None:
        """Ignore notes from now on: the others do not write any either."""
        self._over.set()

    def leave(self) -> NoReturn:
        """Have every rank start again, this one included.

        Raises:
            RuntimeError: another rank does not answer.
        """
        with self._leaving:  # never let go: the other thread that wants the same waits for the end
            port = _free_port() if self._store is None else self._agree()
            _become_again(port, self._inherited)

    def _watch(self) -> None:
        with suppress(RuntimeError):  # rank 0, and the store with it, has ended
            while not self._over.wait(_POLL):
                if self._store.check([_KEY + "wanted"]):
                    self.leave()

    def _agree(self) -> int:
        """Return the port of the next meeting, once every rank has stopped work for it.

        Rank 0 has the store in its process, so it is the last to go.
        """
        store = self._store
        store.set(_KEY + "wanted", b"1")
        others = range(1, self._world.size)
        if not self._world.is_main:
            store.set(f"{_KEY}ready/{self._world.rank}", b"1")
            store.wait([_KEY + "port"], _PATIENCE)
            port = int(store.get(_KEY + "port"))
            store.set(f"{_KEY}gone/{self._world.rank}", b"1")
            return port
        store.wait([f"{_KEY}ready/{rank}" for rank in others], _PATIENCE)
        port = _free_port()
        store.set(_KEY + "port", str(port))
        store.wait([f"{_KEY}gone/{rank}" for rank in others], _PATIENCE)
        return port


def _own_connection() -> Any:
    """Return a connection to the ranks' store that no wait of another thread can block."""
    from torch.distributed import TCPStore

    host = os.environ["MASTER_ADDR"]
    port = int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=_PATIENCE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _become_again(port: int, inherited: frozenset[int]) -> NoReturn:
    """Replace this program by the same command, which meets at another port."""
    environment = dict(os.environ)
    environment[_COUNT] = str(restarts() + 1)
    environment["MASTER_PORT"] = str(port)
    # torchrun's own store still holds what this program wrote there
    environment["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    own = sys.orig_argv[-len(sys.argv) :] == sys.argv
    command = sys.orig_argv[1:] if own else sys.argv
    for descriptor in open_descriptors() - inherited - {0, 1, 2}:
        _close_at_exec(descriptor)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *command], environment)


def _close_at_exec(descriptor: int) -> None:
    """Keep a file from the next program: a GPU's would keep its memory, a socket its peer."""
    try:
        os.set_inheritable(descriptor, False)
    except OSError:  # closed by now, as the one that lists them is
        return
