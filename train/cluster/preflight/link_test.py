"""Times all-reduces within each node, between neighbours, and over all.

Each rank is a process of its own, which may be ended.

A collective over all tells that something is wrong, but not where. Pairs of neighbours do: a node
whose every link fails is the bad one. All pairs of one colour talk at the same time, so that the
number of nodes costs nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from train.system.device import uses_cuda
from train.system.provenance import ROOT

ALL = "all"
_OWN_NAME = "train.cluster.preflight.link_test"
# A failing group may take this many timeouts: gloo waits five for a connection that never comes.
_PATIENCE = 6.0


def links(nodes: int) -> list[list[tuple[int, int]]]:
    """Return the ring's pairs of neighbours in up to three rounds; no node is twice in a round."""
    rounds: list[list[tuple[int, int]]] = [[], [], []]
    for left in range(nodes - 1):
        rounds[left % 2].append((left, left + 1))
    if nodes > 2:
        rounds[1 if nodes % 2 == 0 else 2].append((nodes - 1, 0))
    return [pairs for pairs in rounds if pairs]


def groups(node: int, local: int, nodes: int, ranks: int) -> list[tuple[str, list[int]]]:
    """Return what one rank takes part in, round by round: (name, members).

    The members are empty in a round that it sits out. Links join ranks of the same place on two
    nodes: GPU by GPU. All ranks have the same number of rounds.
    """
    rounds: list[tuple[str, list[int]]] = []
    if ranks > 1:
        rounds.append((f"node {node}", [node * ranks + place for place in range(ranks)]))
    for pairs in links(nodes):
        link = next((pair for pair in pairs if node in pair), None)
        if link is None:
            rounds.append(("none", []))
        else:
            members = [end * ranks + local for end in link]
            rounds.append((f"link {link[0]} {link[1]} {local}", members))
    return [*rounds, (ALL, list(range(nodes * ranks)))]


def longest(nodes: int, seconds: float) -> float:
    """Return after how many seconds a rank that has not ended hangs.

    At worst each round is waited for, and fails by its own timeout.
    """
    return (_PATIENCE + 1) * seconds * (len(links(nodes)) + 2)


def measure(
    host: str, port: int, node: int, nodes: int, ranks: int, megabytes: int, seconds: float
) -> list[dict[str, Any]]:
    """Run this node's ranks, and return {group: seconds or error} for each.

    A rank that hangs is ended.
    """
    limit = time.monotonic() + longest(nodes, seconds)
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        files = [
            (Path(folder) / f"{local}.out", Path(folder) / f"{local}.err") for local in range(ranks)
        ]
        children = []
        for local, (out, err) in enumerate(files):
            arguments = [host, *map(str, (port, node, local, nodes, ranks, megabytes, seconds))]
            with out.open("wb") as stdout, err.open("wb") as stderr:
                command = [sys.executable, "-P", "-m", _OWN_NAME, *arguments]
                children.append(
                    subprocess.Popen(command, stdout=stdout, stderr=stderr, env=_environment())
                )
        for child, (out, err) in zip(children, files, strict=True):
            try:
                code = child.wait(max(0.1, limit - time.monotonic()))
                end = "" if code == 0 else f"ended with {code}: {_last_line(err)}"
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                end = "hangs"
            results: dict[str, Any] = {}
            for line in out.read_text().splitlines():
                results |= json.loads(line)
            if end:
                results["end"] = end
            measured.append(results)
    return measured


def _environment() -> dict[str, str]:
    """Have our own sources found from any working directory, whatever `train` may lie in it."""
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(place for place in places if place)}


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "without a word"


# --- one rank ---------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Take part in this rank's groups, and print {group: seconds or error} after each."""
    import torch
    from torch.distributed import PrefixStore, TCPStore

    host = arguments[0]
    port, node, local, nodes, ranks, megabytes = map(int, arguments[1:7])
    seconds = float(arguments[7])
    # NCCL then raises in time instead of ending the process from another thread.
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
    cuda = uses_cuda()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    limit = timedelta(seconds=seconds)
    tcp_store = TCPStore(host, port, None, False, timeout=limit, wait_for_workers=False)
    store = PrefixStore("traffic", tcp_store)
    rank = node * ranks + local
    total = nodes * ranks
    for turn, (name, members) in enumerate(groups(node, local, nodes, ranks)):
        # All enter a round together: who comes from one that failed must find the others there.
        _wait_for_all(store, f"round {turn}", total, _PATIENCE * seconds)
        if name == ALL and store.add("failed", 0):
            break  # what is known to be broken would only be waited for
        if not members:
            continue
        try:
            own_store = PrefixStore(name, store)
            place = members.index(rank)
            result: Any = _all_reduce(own_store, place, len(members), device, megabytes, seconds)
        except Exception as error:
            store.add("failed", 1)
            result = f"{error}".splitlines()[0][:300]
        print(json.dumps({name: result}), flush=True)


def _wait_for_all(store: Any, name: str, total: int, seconds: float) -> None:
    """Wait until all ranks are here.

    Whoever does not come in time is given up, and what needs it will say so.
    """
    store.add(name, 1)
    end = time.monotonic() + seconds
    while store.add(name, 0) < total and time.monotonic() < end:
        time.sleep(0.02)


def _all_reduce(
    store: Any, rank: int, size: int, device: Any, megabytes: int, seconds: float
) -> float:
    """Return the seconds of the quickest of three all-reduces, after one to warm up."""
    import torch
    import torch.distributed as dist

    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    # A group that failed to start stays counted, and the next would look for its members under
    # another number than theirs.
    dist.distributed_c10d._world.group_count = 0
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=seconds)
    )
    try:
        times = []
        for _ in range(4):
            values = torch.ones(megabytes * 250_000, device=device)
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(values)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
            if not bool((values == size).all()):
                raise RuntimeError(f"a wrong sum: {values.min():g} to {values.max():g} for {size}")
        return min(times[1:])
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    status = 0
    try:
        main(sys.argv[1:])
    except BaseException as failure:
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr, flush=True)
        status = 1
    sys.stdout.flush()
    os._exit(status)  # gloo's threads abort a normal exit now and then (pytorch#190489)
