"""Gives the nodes a place to exchange what they found: a store on the first node.

It needs no collective, which one bad node could hold up.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from train.errors import UserError


@dataclass
class Meeting:
    """The nodes' exchange, as one of them sees it.

    Args:
        store: torch's TCPStore.
        index: this node, of all.
        names: of the nodes, to be called by.
        seconds: how long to wait for anyone.
    """

    store: Any
    index: int
    names: list[str]
    seconds: float

    @property
    def is_head(self) -> bool:
        """True on the node that compares and speaks."""
        return self.index == 0

    def post(self, topic: str, value: Any) -> None:
        """Post this node's word on a topic, as JSON."""
        self.store.set(f"{topic}/{self.index}", json.dumps(value))

    def collect(self, topic: str) -> dict[int, Any]:
        """Return every node's word by index, without those who said nothing in time."""
        end = time.monotonic() + self.seconds
        words = dict[int, Any]()
        while True:
            for index in range(len(self.names)):
                if index not in words and self.store.check([f"{topic}/{index}"]):
                    words[index] = json.loads(self.store.get(f"{topic}/{index}"))
            if len(words) == len(self.names) or time.monotonic() > end:
                return dict(sorted(words.items()))
            time.sleep(0.05)

    def from_head(self, topic: str, seconds: float) -> Any:
        """Return the head's word on a topic.

        Raises:
            UserError: it said nothing in time.
        """
        try:
            self.store.set_timeout(timedelta(seconds=seconds))
            return json.loads(self.store.get(f"{topic}/0"))
        except RuntimeError:
            raise UserError(
                f"the first node, {self.names[0]}, said nothing more within {seconds:.0f} s"
            ) from None


def meet(
    host: str, port: int, index: int, names: list[str], seconds: float, store_is_there: bool
) -> Meeting:
    """Open the store on the first node, or find it from another.

    Args:
        store_is_there: torchrun's agent has opened it already.

    Raises:
        UserError: the first node cannot be reached, or its port is taken.
    """
    from torch.distributed import TCPStore

    is_master = index == 0 and not store_is_there
    limit = timedelta(seconds=seconds)
    try:
        store = TCPStore(host, port, None, is_master, timeout=limit, wait_for_workers=False)
    except (RuntimeError, ValueError) as error:
        reason = f"{error}".splitlines()[0][:200]
        verb = "open" if is_master else "reach"
        raise UserError(f"cannot {verb} {host}:{port} within {seconds:.0f} s ({reason})") from None
    return Meeting(store, index, names, seconds)
