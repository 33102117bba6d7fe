"""Runs a preflight: nodes look at themselves, the first compares, all talk, the first judges."""

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
from train.cluster.preflight.node_facts import (
    NodeFacts,
    inspect_node,
    missing_files,
    summary,
    unlike_most,
)
from train.cluster.preflight.rendezvous import Meeting, meet
from train.errors import UserError

_SKEW = 5.0  # seconds between clocks, from which on logs and files mislead

_ABOUT = """Looks at every node before training starts: the same commit and packages, the GPUs, a
folder that all share, the network.

One process a node, started at the same time on all of them:

srun --ntasks-per-node=1 python -m train preflight --head n1:29400 --output_dir runs/x --ranks 8
torchrun --nnodes 2 --nproc_per_node 1 --rdzv_backend c10d --rdzv_endpoint n1:29500 \\
  -m train preflight --output_dir runs/x --ranks 8

The exit code is 0 on every node, or 1 on every node, and then the first one names the bad nodes and
what is wrong with them.
"""


def main(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    options = _options(arguments)
    facts = NodeFacts()
    try:
        if not options.head or options.node is None or options.nodes is None:
            raise UserError(
                "needs --nodes, --node and --head, or to be started by srun (with --head) or "
                "torchrun"
            )
        names = [f"node {index}" for index in range(options.nodes)]
        if options.hosts:
            names = options.hosts.split(",")
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
    token = meeting.from_head("token", wait)
    probe = folder / f".preflight-{token}-{meeting.index}"
    try:
        facts = inspect_node(folder, probe.name, options.ranks, options.free)
        meeting.post("facts", asdict(facts))
        known = _named(meeting, options) if meeting.is_head else {}
        if meeting.is_head:
            meeting.post("known", {"time": time.time(), "nodes": list(known)})
        head = meeting.from_head("known", wait)
        skew = time.time() - head["time"]
        unseen = _unseen(folder, token, head["nodes"], facts)
        meeting.post("shared", {"skew": skew, "unseen": unseen})
        if meeting.is_head:
            bad = _compare(meeting, known, meeting.collect("shared"))
            meeting.post("sound", not any(bad.values()))
        if meeting.from_head("sound", wait):
            size = (options.ranks, options.megabytes, options.timeout)
            meeting.post("traffic", measure(host, port, meeting.index, len(meeting.names), *size))
            if meeting.is_head:
                _judge_traffic(meeting, options, bad)
        if meeting.is_head:
            meeting.post("verdict", _tell(bad, meeting.names))
        verdict = int(
            meeting.from_head("verdict", longest(len(meeting.names), options.timeout) + wait)
        )
        meeting.post("bye", True)
        if meeting.is_head:
            meeting.collect("bye")  # the store ends with this process
        return verdict
    finally:
        with suppress(OSError):  # what cannot be written cannot be removed
            probe.unlink(missing_ok=True)


def _named(meeting: Meeting, options: argparse.Namespace) -> dict[int, Any]:
    """Collect what the nodes found, each under its name in --hosts, else under its own."""
    known = meeting.collect("facts")
    for index, facts in known.items():
        if options.hosts:
            facts["host"] = meeting.names[index]
        else:
            meeting.names[index] = facts["host"]
    return known


def _unseen(folder: Path, token: str, nodes: list[int], facts: NodeFacts) -> list[int]:
    """Return the nodes whose file does not appear here.

    NFS may show a new file late, though hardly one never asked for before.
    """
    missing = list(nodes)
    end = time.monotonic() + 10.0
    while facts.free_gb is not None:
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
    """Return, by node, what is wrong, and print a line for each node."""
    names = meeting.names
    facts = {index: NodeFacts(**values) for index, values in known.items()}
    print(f"preflight of {len(names)} nodes", flush=True)
    for node in facts.values():
        _print_node(node)
    for index, word in shared.items():
        if abs(word["skew"]) > _SKEW:
            print(
                f"  {names[index]}: warning: its clock is {word['skew']:+.0f} s off that of "
                f"{names[0]}",
                flush=True,
            )
    bad = {index: [f"said nothing within {meeting.seconds:.0f} s"] for index in range(len(names))}
    bad |= {index: list(node.problems) for index, node in facts.items()}
    wrote = {index for index, node in facts.items() if node.free_gb is not None}
    hidden = missing_files(
        {index: wrote - set(word["unseen"]) for index, word in shared.items() if index in wrote}
    )
    for index, others in hidden.items():
        writers = ", ".join(names[other] for other in others)
        bad[index].append(
            f"does not see what {writers} wrote to the output folder; it is not shared"
        )
    for index, differences in unlike_most(facts).items():
        bad[index] += differences
    return bad


def _print_node(node: NodeFacts) -> None:
    version = node.commit or node.sources
    free = "" if node.free_gb is None else f", {node.free_gb:.0f} GB free"
    print(
        f"  {node.host}: {version}, torch {node.versions['torch']}, {summary(node.devices)}{free}",
        flush=True,
    )
    for warning in node.warnings:
        print(f"  {node.host}: warning: {warning}", flush=True)


def _judge_traffic(
    meeting: Meeting, options: argparse.Namespace, bad: dict[int, list[str]]
) -> None:
    seconds = longest(len(meeting.names), options.timeout) + options.timeout
    patient = Meeting(meeting.store, 0, meeting.names, seconds)
    measured = patient.collect("traffic")
    for index, words in judge(measured, meeting.names, options.slowest).items():
        bad[index] += words
    for index in set(range(len(meeting.names))) - set(measured):
        bad[index].append("said nothing about its traffic")
    speed = rate(measured, options.megabytes)
    if speed:
        print(f"  {speed}", flush=True)


def _tell(bad: dict[int, list[str]], names: Any) -> int:
    """Print the verdict; return 1 where there is anything bad."""
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
    parser = argparse.ArgumentParser(
        prog="python -m train preflight",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_places(parser)
    _add_limits(parser)
    return parser.parse_args(arguments)


def _add_places(parser: argparse.ArgumentParser) -> None:
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
        default=_head_of_torchrun(),
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


def _add_limits(parser: argparse.ArgumentParser) -> None:
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


def _head_of_torchrun() -> str | None:
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"


def _first(*names: str) -> int | None:
    return next((int(os.environ[name]) for name in names if name in os.environ), None)
