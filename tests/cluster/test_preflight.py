"""The preflight over three hosts, one of which has a bad network: the all-reduce over all says
that, the links say which.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
HOSTS = str(ROOT / "tests" / "cluster" / "hosts.sh")
TIMEOUT = "5"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Path]:
    """The folder of three hosts."""
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("ip", "tc", "nsenter")):
        pytest.skip("needs root and iproute2, for network namespaces")
    folder = tmp_path / "net"
    subprocess.run([HOSTS, "up", str(folder), "3"], check=True, timeout=120)
    yield folder
    subprocess.run([HOSTS, "down", str(folder)], check=True, timeout=120)


def on(hosts: Path, host: str, *command: str) -> None:
    subprocess.run([HOSTS, "run", str(hosts), host, *command], check=True, timeout=120)


def preflight(hosts: Path) -> tuple[set[int], str]:
    """The nodes' exit codes, and what the first one says."""
    environment = os.environ | {
        "DS_ACCELERATOR": "cpu",
        "GLOO_SOCKET_IFNAME": "eth0",
        "PYTHONPATH": str(ROOT),
    }
    running = []
    for index in range(3):
        command = [
            HOSTS,
            "run",
            str(hosts),
            f"n{index + 1}",
            sys.executable,
            "-m",
            "train",
            "preflight",
            "--nodes",
            "3",
            "--node",
            str(index),
        ]
        command += [
            "--head",
            "10.77.0.1:28100",
            "--megabytes",
            "16",
            "--timeout",
            TIMEOUT,
            "--free",
            "0",
            "--output_dir",
            str(hosts / "runs"),
        ]
        running.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    outputs = [process.communicate(timeout=600)[0] for process in running]
    return {process.returncode for process in running}, outputs[0]


def test_a_sound_network_is_fit(hosts: Path) -> None:
    codes, said = preflight(hosts)
    assert codes == {0} and "all-reduce of 16 MB over 3 ranks" in said, said


def test_a_slow_card_is_named(hosts: Path) -> None:
    on(
        hosts,
        "n3",
        "tc",
        "qdisc",
        "add",
        "dev",
        "eth0",
        "root",
        "tbf",
        "rate",
        "100mbit",
        "burst",
        "256kbit",
        "latency",
        "400ms",
    )
    codes, said = preflight(hosts)
    assert codes == {1} and "1 of 3 nodes must not train" in said, said
    assert said.count("preflight: n3: no good traffic with") == 2


def test_two_nodes_that_do_not_reach_each_other_are_named_and_the_third_is_not(hosts: Path) -> None:
    on(hosts, "n2", "ip", "route", "add", "blackhole", "10.77.0.3")
    on(hosts, "n3", "ip", "route", "add", "blackhole", "10.77.0.2")
    codes, said = preflight(hosts)
    assert codes == {1} and "2 of 3 nodes must not train" in said, said
    assert (
        "preflight: n2: no good traffic with n3" in said
        and "preflight: n3: no good traffic with n2" in said
    )
    assert "preflight: n1:" not in said
