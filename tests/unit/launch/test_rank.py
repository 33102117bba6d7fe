"""launch/rank.sh: a rank has one name, whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, "3 1 4"),
        (
            {
                "OMPI_COMM_WORLD_RANK": "1",
                "OMPI_COMM_WORLD_LOCAL_RANK": "0",
                "OMPI_COMM_WORLD_SIZE": "2",
                "SLURM_PROCID": "0",
            },
            "1 0 2",
        ),
        ({"SLURM_PROCID": "5", "SLURM_LOCALID": "2", "SLURM_NTASKS": "8"}, "5 2 8"),
    ],
)
def test_a_rank_has_one_name_whoever_started_it(variables: dict[str, str], expected: str) -> None:
    here = {
        name: value
        for name, value in os.environ.items()
        if "RANK" not in name and "SLURM" not in name and name != "WORLD_SIZE"
    }
    here |= {"PYTHON": sys.executable, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    show = [
        str(ROOT / "launch" / "rank.sh"),
        "bash",
        "-c",
        'echo "$RANK $LOCAL_RANK $WORLD_SIZE $GLOO_SOCKET_IFNAME $NCCL_SOCKET_IFNAME"',
    ]
    done = subprocess.run(show, env=here | variables, text=True, capture_output=True, timeout=120)
    assert done.stdout == f"{expected} lo =lo\n", done.stderr
    alone = subprocess.run(show, env=here, text=True, capture_output=True, timeout=120)
    assert alone.returncode == 2 and "no rank: none of RANK" in alone.stderr
