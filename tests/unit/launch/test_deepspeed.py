"""launch/deepspeed.sh: what it hands to the deepspeed launcher, and what it refuses before that
dies of it or trains elsewhere.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "launch" / "deepspeed.sh"
RECIPE = ("--config", "train/recipes/quickstart.yaml")
TWO = ("--hostfile", str(ROOT / "launch" / "hostfile.example"))


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script with these arguments, away from the project and from GPUs."""
    outside = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DS_ENV_FILE", "CUDA_VISIBLE_DEVICES")
    }
    environment = (
        outside
        | {"PYTHON": sys.executable, "DS_ACCELERATOR": "cpu", "HOME": "/nowhere"}
        | variables
    )
    return subprocess.run(
        [str(SCRIPT), *arguments],
        cwd="/",
        env=environment,
        text=True,
        capture_output=True,
        timeout=120,
    )


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder with an ssh that reaches everybody, and a pdsh that prints what the shell of a node
    would make of its command.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text("#!/bin/bash\n")
    (folder / "pdsh").write_text(
        '#!/bin/bash\ncommand="$*"\necho "pdsh ${command%%export *}"\nprintf "%s\\n" "$command" | '
        'grep -o "export [^;]*"\n'
        'eval "set -- ${command##*/train/pretrain.py}"\nprintf "argument <%s>\\n" "$@"\n'
    )
    for program in folder.iterdir():
        program.chmod(0o755)
    return folder


def test_deepspeed_reads_the_template_and_the_nodes_get_the_arguments_as_written(
    stand_ins: Path, tmp_path: Path
) -> None:
    template = ROOT / "launch" / "deepspeed_env.example"
    hard = [
        "--data.files",
        "c4/*.json.gz",
        "a b",
        'two "words"',
        "$HOME",
        "it costs $5 `now`",
        r"back\slash",
        r"and \ more",
        "",
        "a;b",
        "(x)",
    ]
    done = run(
        *TWO, "--env-file", str(template), *RECIPE, *hard, PATH=f"{stand_ins}:{os.environ['PATH']}"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "-w node-1,node-2" in lines[0]
    expected = [f"export {line}" for line in template.read_text().splitlines()]
    assert len(expected) >= 3 and [line for line in lines if line in expected] == expected
    assert [line for line in lines if line.startswith("argument")] == [
        f"argument <{text}>" for text in (*RECIPE, *hard)
    ]


def test_deepspeed_reads_the_hostfile_example() -> None:
    from deepspeed.launcher.runner import fetch_hostfile

    assert dict(fetch_hostfile(TWO[1])) == {"node-1": 8, "node-2": 8}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ["--hostfile ''", "--num_gpus 1", "/train/pretrain.py"]),
        (("--ranks", "2", "--port", "4000"), ["--num_gpus 2", "--master_port 4000"]),
        (TWO, ["--launcher pdsh", "--force_multi", "--master_addr node-1", "/launch/rank.sh"]),
        ((*TWO, "--head", "10.0.0.7"), ["--master_addr 10.0.0.7"]),
        (
            (*TWO, "--node-rank", "1", "--logs", "l"),
            ["--no_ssh --node_rank 1", "--enable_each_rank_log l", "/launch/rank.sh"],
        ),
    ],
)
def test_the_command_of_each_way(
    arguments: tuple[str, ...], parts: list[str], stand_ins: Path
) -> None:
    done = run("--print", *arguments, *RECIPE, PATH=f"{stand_ins}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(" ".join(RECIPE))
    for part in parts:
        assert part in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\n\nB=2\n", "line 2: deepspeed takes NAME=VALUE lines only"),
        ("# note: a=b\n", "line 1: deepspeed takes NAME=VALUE lines only"),
        ("A=1\nexport B=2", "line 2: deepspeed takes NAME=VALUE lines only"),
        (
            "TOKENIZERS_PARALLELISM=false\nWANDB_API_KEY=secret\n",
            "line 2: WANDB_API_KEY would stand in command lines",
        ),
    ],
)
def test_an_env_file_that_deepspeed_would_die_of_or_give_away(
    text: str, message: str, tmp_path: Path, stand_ins: Path
) -> None:
    path = tmp_path / "env"
    path.write_text(text)
    for named in ((*TWO, "--env-file", str(path)), TWO):
        done = run(
            "--print",
            *named,
            *RECIPE,
            PATH=f"{stand_ins}:{os.environ['PATH']}",
            DS_ENV_FILE=str(path),
        )
        assert (
            done.returncode == 2
            and f"error: {path}, {message}" in done.stderr
            and "secret" not in done.stderr
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no recipe"),
        (("--ranks",), "--ranks has no value"),
        (("--node-rank", "0", *RECIPE), "--node-rank needs --hostfile"),
        (("--hostfile", "/nowhere/hosts", *RECIPE), "no hostfile /nowhere/hosts"),
        ((*TWO, "--ranks", "4", *RECIPE), "write slots=4"),
        ((*TWO, "--node-rank", "2", *RECIPE), "has 0 to 1"),
        ((*TWO, "--launcher", "mpi", *RECIPE), "--launcher mpi: pdsh or openmpi"),
        ((*TWO, "--env-file", "/nowhere/env", *RECIPE), "no file /nowhere/env"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], message: str, stand_ins: Path) -> None:
    done = run(*arguments, PATH=f"{stand_ins}:{os.environ['PATH']}")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and message in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node-1 slots=2\nnode-2\n", "line 2: write NAME slots=RANKS"),
        ("# none\n", "names no machine"),
    ],
)
def test_a_hostfile_that_cannot_be_meant(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    done = run("--print", "--hostfile", str(path), *RECIPE)
    assert done.returncode == 2 and message in done.stderr


def test_ranks_do_not_override_the_gpus_that_were_chosen() -> None:
    done = run("--print", "--ranks", "2", *RECIPE, CUDA_VISIBLE_DEVICES="2,3")
    assert done.returncode == 2 and "CUDA_VISIBLE_DEVICES" in done.stderr


def port_of(*arguments: str) -> str:
    words = run(*arguments, "--print", *RECIPE).stdout.split()
    return words[words.index("--master_port") + 1]


def test_runs_on_one_machine_meet_at_free_ports_of_their_own():
    with socket.socket() as taken:
        taken.bind(("", 0))
        first, second = port_of(), port_of()
        assert str(taken.getsockname()[1]) not in (first, second)
    assert first.isdecimal() and second.isdecimal() and first != second
    assert port_of("--port", "1234") == "1234"
    assert port_of("--node-rank", "0", *TWO) == "29500"  # the same on every machine
