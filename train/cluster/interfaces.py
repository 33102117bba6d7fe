"""Finds the network interface that leads to a host.

`python -m train interface HOST` prints its name and our address on it.

NCCL and gloo choose by name or by order, and then meet on a bridge of Docker's or on 127.0.1.1; the
way to the first node is the one that works.
"""

from __future__ import annotations

import socket
import sys

from train.errors import UserError, as_command

_OUTSIDE = "192.0.2.1"  # an address for documents, RFC 5737: the default route leads there


def way_to(host: str) -> tuple[str, str]:
    """Return the interface towards a host, and our address on it. Nothing is sent.

    Args:
        host: a name or an address.

    Raises:
        UserError: the name is unknown, or no way leads there.
    """
    address = _source(host)
    # Debian gives a machine's own name the address 127.0.1.1 in its /etc/hosts: take the way out of
    # the machine.
    if address.startswith("127.") and host != "localhost" and not host.startswith("127."):
        address = _source(_OUTSIDE)
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if address in [each.address.split("%")[0] for each in addresses]:
            return name, address
    raise UserError(
        f"{socket.gethostname()} reaches {host} from {address}, which is on none of its interfaces"
    )


def _source(host: str) -> str:
    """Return our address on the way to a host."""
    try:
        family, _, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    except OSError as error:
        raise UserError(
            f"{socket.gethostname()} does not know the host {host!r}: {error.strerror}"
        ) from None
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(target)  # of a datagram socket: asks the routing table only
        except OSError as error:
            raise UserError(
                f"no way from {socket.gethostname()} to {host} ({target[0]}): {error.strerror}"
            ) from None
        return str(probe.getsockname()[0])


def main(arguments: list[str]) -> int:
    """Print `INTERFACE ADDRESS`."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    return as_command(lambda: print(*way_to(arguments[0])))
