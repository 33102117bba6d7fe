"""The order of a preflight: every node looks at itself, the first compares, then all of them talk,
and the first says the verdict.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from train.cluster.preflight.diagnose import judge, rate
from train.cluster.preflight.link_test import longest, measure
from train.cluster.preflight.node_facts import Facts, apart, look, odd_ones, summary
from train.cluster.preflight.rendezvous import Meeting, meet
from train.errors import UserError

_SKEW = 5.0  # seconds between clocks, from which on logs and files mislead

_ABOUT = """Looks at every node before training starts: the same commit and packages, the GPUs, a folder that all share, the network.

One process a node, started at the same time on all of them:

srun --ntasks-per-node=1 python -m train preflight --head n1:29400 --output_dir runs/x --ranks 8
torchrun --nnodes 2 --nproc_per_node 1 --rdzv_backend c10d --rdzv_endpoint n1:29500 -m train preflight --output_dir runs/x --ranks 8

The exit code is 0 on every node, or 1 on every node, and then the first one names the bad nodes and what is wrong with them.
"""


def main(arguments: list[str]) -> int:
    """The command line; returns the exit code."""
    options = _options(arguments)
    facts = Facts()
    try:
        if not options.head or options.node is None or options.nodes is None:
            raise UserError(
                "needs --nodes, --node and --head, or to be started by srun (with --head) or "
                "torchrun"
            )
        names = (
            options.hosts.split(",")
            if options.hosts
            else [f"node {index}" for index in range(options.nodes)]
        )
        if len(names) != options.nodes:
            raise UserError(f"--hosts has {len(names)} names for {options.nodes} nodes")
        host, _, port = options.head.rpartition(":")
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        meeting = meet(host, int(port), options.node, names, options.timeout, agent)
        return _examine(meeting, options, host, int(port))
    except UserError as error:
        print(f"preflight: {facts.host}: {error}", file=sys.stderr, flush=True)
        return 1


def _examine(meeting: Meeting, options: argparse.Namespace, host: str, port: int) -> int:
    folder = Path(options.output_dir)
    wait = options.timeout * 2
    if meeting.is_head:
        meeting.post("token", uuid.uuid4().hex[:8])
    token = meeting.heard("token", wait)
    probe = folder / f".preflight-{token}-{meeting.index}"
    try:
        mine = look(folder, probe.name, options.ranks, options.free)
        meeting.post("facts", asdict(mine))
        known = _named(meeting, options) if meeting.is_head else {}
        if meeting.is_head:
            meeting.post("known", {"time": time.time(), "nodes": list(known)})
        told = meeting.heard("known", wait)
        meeting.post(
            "shared",
            {
                "skew": time.time() - told["time"],
                "unseen": _unseen(folder, token, told["nodes"], mine),
            },
        )
        if meeting.is_head:
            bad = _compare(meeting, known, meeting.collect("shared"))
            meeting.post("sound", not any(bad.values()))
        if meeting.heard("sound", wait):
            size = (options.ranks, options.megabytes, options.timeout)
            meeting.post("traffic", measure(host, port, meeting.index, len(meeting.names), *size))
            if meeting.is_head:
                _judge_traffic(meeting, options, bad)
        if meeting.is_head:
            meeting.post("verdict", _tell(bad, meeting.names))
        verdict = int(meeting.heard("verdict", longest(len(meeting.names), options.timeout) + wait))
        meeting.post("bye", True)
        if meeting.is_head:
            meeting.collect("bye")  # the store ends with this process
        return verdict
    finally:
        with suppress(OSError):  # what cannot be written cannot be removed
            probe.unlink(missing_ok=True)


def _named(meeting: Meeting, options: argparse.Namespace) -> dict[int, Any]:
    """What the nodes found, each under its name in --hosts; without that, each is called by its
    own.
    """
    known = meeting.collect("facts")
    for index, found in known.items():
        if options.hosts:
            found["host"] = meeting.names[index]
        else:
            meeting.names[index] = found["host"]
    return known


def _unseen(folder: Path, token: str, nodes: list[int], mine: Facts) -> list[int]:
    """The nodes whose file does not appear here.

    NFS may show a new file late, though hardly one never asked for before.
    """
    missing = list(nodes)
    end = time.monotonic() + 10.0
    while mine.free_gb is not None:
        missing = [
            index for index in missing if not (folder / f".preflight-{token}-{index}").exists()
        ]
        if not missing or time.monotonic() > end:
            return missing
        time.sleep(0.2)
    return []  # it cannot write there, and has said so


def _compare(
    meeting: Meeting, known: dict[int, Any], shared: dict[int, Any]
) -> dict[int, list[str]]:
    """By node, what is wrong; prints a line for each."""
    names = meeting.names
    facts = {index: Facts(**found) for index, found in known.items()}
    print(f"preflight of {len(names)} nodes", flush=True)
    for node in facts.values():
        free = "" if node.free_gb is None else f", {node.free_gb:.0f} GB free"
        print(
            f"  {node.host}: {node.commit or node.sources}, torch {node.versions['torch']}, "
            f"{summary(node.devices)}{free}",
            flush=True,
        )
        for warning in node.warnings:
            print(f"  {node.host}: warning: {warning}", flush=True)
    for index, word in shared.items():
        if abs(word["skew"]) > _SKEW:
            print(
                f"  {names[index]}: warning: its clock is {word['skew']:+.0f} s off that of "
                f"{names[0]}",
                flush=True,
            )
    bad = {
        index: list(facts[index].problems)
        if index in facts
        else [f"said nothing within {meeting.seconds:.0f} s"]
        for index in range(len(names))
    }
    wrote = {index for index, node in facts.items() if node.free_gb is not None}
    hidden = apart(
        {index: wrote - set(word["unseen"]) for index, word in shared.items() if index in wrote}
    )
    for index, others in hidden.items():
        words = f"does not see what {', '.join(names[other] for other in others)} wrote to the output folder; it is not shared"
        bad[index].append(words)
    for index, differences in odd_ones(facts).items():
        bad[index] += differences
    return bad


def _judge_traffic(
    meeting: Meeting, options: argparse.Namespace, bad: dict[int, list[str]]
) -> None:
    patient = Meeting(
        meeting.store,
        0,
        meeting.names,
        longest(len(meeting.names), options.timeout) + options.timeout,
    )
    found = patient.collect("traffic")
    for index, words in judge(found, meeting.names, options.slowest).items():
        bad[index] += words
    for index in set(range(len(meeting.names))) - set(found):
        bad[index].append("said nothing about its traffic")
    measured = rate(found, options.megabytes)
    if measured:
        print(f"  {measured}", flush=True)


def _tell(bad: dict[int, list[str]], names: Any) -> int:
    """Prints the verdict; 1 where there is anything bad."""
    guilty = {index: words for index, words in bad.items() if words}
    if not guilty:
        print("preflight: all nodes are fit to train", flush=True)
        return 0
    print(
        f"preflight: {len(guilty)} of {len(names)} nodes must not train:",
        file=sys.stderr,
        flush=True,
    )
    for index, words in guilty.items():
        for word in words:
            print(f"preflight: {names[index]}: {word}", file=sys.stderr, flush=True)
    return 1


def _options(arguments: list[str]) -> argparse.Namespace:
    environment = os.environ
    torchrun = (
        f"{environment.get('MASTER_ADDR')}:{environment.get('MASTER_PORT')}"
        if "TORCHELASTIC_RUN_ID" in environment
        else None
    )
    parser = argparse.ArgumentParser(
        prog="python -m train preflight",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--nodes",
        type=int,
        default=_first("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"),
        help="how many; srun and torchrun tell",
    )
    parser.add_argument(
        "--node",
        type=int,
        default=_first("RANK", "SLURM_PROCID"),
        help="this one, from 0; srun and torchrun tell",
    )
    parser.add_argument(
        "--head",
        default=torchrun,
        metavar="HOST:PORT",
        help="the first node and a free port on it; torchrun tells",
    )
    parser.add_argument(
        "--hosts", default="", metavar="A,B", help="names of the nodes, to call them by"
    )
    parser.add_argument(
        "--output_dir", default="runs", help="folder of the results, on every node the same (runs)"
    )
    parser.add_argument(
        "--ranks",
        type=int,
        default=1,
        help="ranks a node, with a GPU each where there are GPUs (1)",
    )
    parser.add_argument(
        "--megabytes", type=int, default=64, help="size of the timed all-reduces (64)"
    )
    parser.add_argument(
        "--free", type=float, default=1.0, metavar="GB", help="least room for the results (1)"
    )
    parser.add_argument(
        "--slowest",
        type=float,
        default=0.2,
        help="least share of a good link's rate that every link must reach (0.2)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds to wait for a node or a collective (60)",
    )
    return parser.parse_args(arguments)


def _first(*names: str) -> int | None:
    return next((int(os.environ[name]) for name in names if name in os.environ), None)
