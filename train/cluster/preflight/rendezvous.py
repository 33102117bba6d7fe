"""Where the nodes exchange what they found: a store on the first node, and no collective that one
bad node could hold up.
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
    """Args:
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
        """This node's word on a topic; JSON."""
        self.store.set(f"{topic}/{self.index}", json.dumps(value))

    def collect(self, topic: str) -> dict[int, Any]:
        """Every node's word by index; who said nothing in time is left out."""
        end = time.monotonic() + self.seconds
        found = dict[int, Any]()
        while True:
            for index in range(len(self.names)):
                if index not in found and self.store.check([f"{topic}/{index}"]):
                    found[index] = json.loads(self.store.get(f"{topic}/{index}"))
            if len(found) == len(self.names) or time.monotonic() > end:
                return dict(sorted(found.items()))
            time.sleep(0.05)

    def heard(self, topic: str, seconds: float) -> Any:
        """The head's word on a topic.

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
    """Opens the store on the first node, or finds it from another.

    Args:
        store_is_there: torchrun's agent has opened it already.

    Raises:
        UserError: the first node cannot be reached, or its port is taken.
    """
    from torch.distributed import TCPStore

    is_master = index == 0 and not store_is_there
    try:
        store = TCPStore(
            host, port, None, is_master, timeout=timedelta(seconds=seconds), wait_for_workers=False
        )
    except (RuntimeError, ValueError) as error:
        reason = f"{error}".splitlines()[0][:200]
        verb = "open" if is_master else "reach"
        raise UserError(f"cannot {verb} {host}:{port} within {seconds:.0f} s ({reason})") from None
    return Meeting(store, index, names, seconds)
