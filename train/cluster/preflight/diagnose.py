"""Infers from the times and errors of all ranks which nodes are at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.cluster.preflight.link_test import ALL

Measured = Mapping[int, Sequence[Mapping[str, Any]]]


def judge(measured: Measured, names: Sequence[str], slowest: float) -> dict[int, list[str]]:
    """Return what is wrong with each node's traffic.

    Args:
        measured: by node, for each of its ranks, {group: seconds or error}; "end" says how a rank
            ended that did not end well.
        names: of the nodes.
        slowest: a link below this share of a good one's rate is at fault, where there are three
            links or more; 0 accepts any.
    """
    blame: dict[int, list[str]] = {index: [] for index in measured}
    times: dict[tuple[int, int], float] = {}
    broken: dict[tuple[int, int], str] = {}
    for index, ranks in measured.items():
        for place, results in enumerate(ranks):
            if "end" in results:
                blame[index].append(f"rank {place} of the node {results['end']}")
            for name, result in results.items():
                if name.startswith("node ") and isinstance(result, str):
                    blame[index].append(f"its own ranks cannot talk to one another: {result}")
                elif name.startswith("link "):
                    link = (int(name.split()[1]), int(name.split()[2]))
                    if isinstance(result, str):
                        broken.setdefault(link, result)
                    else:
                        times[link] = max(result, times.get(link, 0.0))
                elif name == ALL and isinstance(result, str):
                    blame[index].append(f"the all-reduce over all nodes failed: {result}")
    if slowest and len(times) >= 3:
        # The quarter, not the half: of four links, two belong to the slow node.
        usual = sorted(times.values())[len(times) // 4]
        for link, seconds in times.items():
            if seconds > usual / slowest:
                broken.setdefault(link, f"{seconds * 1e3:.0f} ms, good ones take {usual * 1e3:.0f}")
    for link, error in broken.items():
        for index in _at_fault(link, set(times) - set(broken)):
            other = names[link[0] + link[1] - index]
            blame[index].append(f"no good traffic with {other}: {error}")
    return {index: list(dict.fromkeys(words)) for index, words in blame.items()}


def _at_fault(link: tuple[int, int], good: set[tuple[int, int]]) -> list[int]:
    """Return the end of a bad link that has no good link while the other end has one.

    Both are returned where that does not tell.
    """
    without_good = [end for end in link if not any(end in other for other in good)]
    return without_good if len(without_good) == 1 else list(link)


def rate(measured: Measured, megabytes: int) -> str:
    """Describe the all-reduce over all ranks, empty where there was none."""
    of_ranks = [results for ranks in measured.values() for results in ranks]
    times = [results[ALL] for results in of_ranks if isinstance(results.get(ALL), float)]
    if not times:
        return ""
    seconds = max(times)
    size = len(times)
    # Each rank's link carries this much in a ring, in GB/s.
    moved = 2 * (size - 1) / size * megabytes / 1e3 / seconds
    return (
        f"all-reduce of {megabytes} MB over {size} ranks: {seconds * 1e3:.1f} ms, "
        f"{moved:.2f} GB/s for each"
    )
