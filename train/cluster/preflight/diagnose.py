"""From the times and errors of all ranks to the nodes that are at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from train.cluster.preflight.link_test import ALL


def judge(
    found: Mapping[int, Sequence[Mapping[str, Any]]], names: Sequence[str], slowest: float
) -> dict[int, list[str]]:
    """By node, what is wrong with its traffic.

    Args:
        found: by node, for each of its ranks, {group: seconds or error}; "end" says how a rank
            ended that did not end well.
        slowest: a link below this share of a good one's rate is at fault, where there are three
            links or more; 0 accepts any.
    """
    blame: dict[int, list[str]] = {index: [] for index in found}
    times: dict[tuple[int, int], float] = {}
    broken: dict[tuple[int, int], str] = {}
    for index, ranks in found.items():
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
        # of four links, two belong to the slow node
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
    """Of the two ends, the one that has no good link while the other has one; both where that does
    not tell.
    """
    fine = [any(end in other for other in good) for end in link]
    return (
        [end for end, well in zip(link, fine, strict=True) if not well]
        if fine[0] != fine[1]
        else list(link)
    )


def rate(found: Mapping[int, Sequence[Mapping[str, Any]]], megabytes: int) -> str:
    """The all-reduce over all ranks in words; empty where there was none."""
    times = [
        results[ALL]
        for ranks in found.values()
        for results in ranks
        if isinstance(results.get(ALL), float)
    ]
    if not times:
        return ""
    seconds = max(times)
    size = len(times)
    # what each rank's link carries in a ring
    moved = 2 * (size - 1) / size * megabytes / 1e3 / seconds
    return f"all-reduce of {megabytes} MB over {size} ranks: {seconds * 1e3:.1f} ms, {moved:.2f} GB/s for each"
