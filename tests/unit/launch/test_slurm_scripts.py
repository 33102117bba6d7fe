"""launch/slurm: what the job scripts make of an allocation, with stand-ins for SLURM's commands
that write down how they were called.

The trials on a real SLURM are in tests/cluster.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.waiting import until

SRUN = """#!/bin/bash
# Leaves out srun's own options, and the container's; runs what is left once.
printf "srun %s\\n" "$*" >>"$CALLS"
while [[ $1 == -* ]]; do shift; done
exec "$@"
"""
APPTAINER = """#!/bin/bash
printf "apptainer %s\\n" "$*" >>"$CALLS"
until [[ $1 == *.sif ]]; do shift; done
shift
exec "$@"
"""
SCONTROL = """#!/bin/bash
printf "scontrol %s\\n" "$*" >>"$CALLS"
case "$1 $2" in
    "show hostnames") printf "n1\\nn2\\n" ;;
    "show node") echo "NodeName=n1 Arch=x86_64 NodeAddr=127.0.0.1 NodeHostName=n1" ;;
    requeue*) kill -TERM "$PPID" ;;
esac
"""
SCANCEL = """#!/bin/bash
printf "scancel %s\\n" "$*" >>"$CALLS"
touch "$LAUNCHED.signalled"
"""
# torchrun, deepspeed and the preflight are written down; anything else is the real interpreter.
PYTHON = """#!/bin/bash
case "$*" in
    *torch.distributed.run* | *"train preflight"* | *--dry-run*)
        printf "python %s\\n" "$*" >>"$CALLS"
        [[ $* == *"train preflight"* ]] && exit "${PREFLIGHT_CODE:-0}"
        [[ $* == *--dry-run* ]] && exit "${DRY_RUN_CODE:-0}"
        exec bash "$LAUNCHED" ;;
    *) exec "$REAL" "$@" ;;
esac
"""
DEEPSPEED = """#!/bin/bash
printf "deepspeed %s\\n" "$*" >>"$CALLS"
echo "from rank 0" >"$(sed -E 's/.*--output=(.*)%t.log .*/\\1/' <<<"$*")0.log"
exec bash "$LAUNCHED"
"""


@dataclass
class Job:
    """A job script and the folder it is submitted from."""

    folder: Path
    environment: dict[str, str]

    def start(self, script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        command = ["bash", str(ROOT / "launch" / "slurm" / script), *arguments]
        place = {
            "cwd": ROOT,
            "env": self.environment | variables,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
        }
        return subprocess.Popen(command, text=True, **place)

    def run(self, script: str, *arguments: str, **variables: str) -> tuple[int, str]:
        """(exit code, output)."""
        started = self.start(script, *arguments, **variables)
        output = started.communicate(timeout=120)[0]
        return started.returncode, output

    @property
    def calls(self) -> list[str]:
        """How SLURM's commands were called, in order."""
        return (self.folder / "calls").read_text().splitlines()

    def call(self, pattern: str) -> str:
        """The one call that matches."""
        [found] = [call for call in self.calls if re.search(pattern, call)]
        return found

    def leaves(
        self, state: str, step: int = 5, reason: str = "", then: str = "", prepared: int = 0
    ) -> None:
        """What the launched program does: the state of the run that it leaves, after `then`."""
        facts = {"state": state, "step": step, "steps": 10, "reason": reason, "checkpoint": None}
        record = json.dumps(facts | {"prepared": prepared})
        (self.folder / "launched").write_text(
            f"{then}\ncat >{self.run_dir}/state.json <<<'{record}'\n"
        )

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_ins = {
        "srun": SRUN,
        "scontrol": SCONTROL,
        "scancel": SCANCEL,
        "apptainer": APPTAINER,
        "python": PYTHON,
        "deepspeed": DEEPSPEED,
    }
    for name, text in stand_ins.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLURM_") and name != "PYTHON"
    }
    environment = outside | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "LAUNCHED": str(tmp_path / "launched"),
        "REAL": sys.executable,
        "ENVIRONMENT": "",
        "RECIPE": "train/recipes/quickstart.yaml",
        "SLURM_JOB_ID": "10007",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_CPUS_PER_NODE": "64,48",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_GPUS_ON_NODE": "8",
        "OMP_NUM_THREADS": "",
    }
    made = Job(tmp_path, environment)
    made.leaves("finished", 10)
    return made


def out(job: Job) -> tuple[str, str]:
    return "--output_dir", str(job.run_dir)


def test_the_allocation_decides_nodes_ranks_and_the_meeting(job: Job) -> None:
    code, output = job.run("torchrun.sbatch", *out(job), "--run.seed", "7")
    assert code == 0, output
    step = "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=48 "
    assert job.call("srun .*preflight").startswith(step + "--kill-on-bad-exit=0 ")
    assert "--head 127.0.0.1:10015 --hosts n1,n2 --ranks 8" in job.call("^python .*preflight")
    started = job.call("srun .*launch/torchrun.sh")
    assert started.startswith(step + "--kill-on-bad-exit=1 bash ")
    assert "--nodes 2 --ranks 8 --head 127.0.0.1:10014 --id 10007.0 --max-restarts 3" in started
    assert started.endswith(
        f"--config train/recipes/quickstart.yaml --run.seed 7 --output_dir {job.run_dir}"
    )
    assert "--dry-run --world-size 16 --config train/recipes/quickstart.yaml" in job.call(
        "^python .*dry-run"
    )
    assert "is finished at step 10; the launcher ended with 0" in output


def test_an_allocation_without_gpus_has_a_rank_a_node(job: Job) -> None:
    job.environment.pop("SLURM_GPUS_ON_NODE")
    assert job.run("torchrun.sbatch", *out(job))[0] == 0
    assert "--ranks 1 " in job.call("srun .*launch/torchrun.sh")


def test_a_mistake_in_the_recipe_ends_the_job_before_the_nodes_are_looked_at(job: Job) -> None:
    code, _ = job.run("torchrun.sbatch", *out(job), DRY_RUN_CODE="2")
    assert code == 2 and not any(call.startswith("srun") for call in job.calls)


def test_a_bad_node_ends_the_job_before_training(job: Job) -> None:
    code, _ = job.run("torchrun.sbatch", *out(job), PREFLIGHT_CODE="1")
    assert code == 1 and not any("torchrun.sh" in call for call in job.calls)
    assert job.run("torchrun.sbatch", *out(job), PREFLIGHT_CODE="1", PREFLIGHT="no")[0] == 0


def test_a_task_of_an_array_has_its_seed_and_its_folder(job: Job) -> None:
    job.leaves("finished")
    (job.folder / "launched").write_text("true\n")
    job.run("torchrun.sbatch", *out(job), SLURM_ARRAY_TASK_ID="3")
    assert job.call("srun .*launch/torchrun.sh").endswith(
        f"--config train/recipes/quickstart.yaml --run.seed 3 --output_dir {job.run_dir}/seed-3"
    )
    assert (job.run_dir / "seed-3" / "logs").is_dir()


def test_a_task_of_a_sweep_has_its_line(job: Job) -> None:
    sweep = job.folder / "sweep.txt"
    sweep.write_text("--optim.lr 1e-3\n--optim.lr 2e-3 --name 'two words'\n")
    job.run("torchrun.sbatch", *out(job), SLURM_ARRAY_TASK_ID="2", SWEEP=str(sweep))
    assert job.call("srun .*launch/torchrun.sh").endswith(
        f"--optim.lr 2e-3 --name two words --output_dir {job.run_dir}/task-2"
    )
    code, output = job.run("torchrun.sbatch", *out(job), SLURM_ARRAY_TASK_ID="9", SWEEP=str(sweep))
    assert code == 2 and "has no line 9; submit with --array=1-2" in output


def test_a_line_of_a_sweep_may_name_the_recipe_and_the_folder(job: Job) -> None:
    sweep = job.folder / "sweep.txt"
    recipe = "train/recipes/llama_60m.yaml"
    sweep.write_text(
        f"--config {recipe} --data.tokenizer '' --name 'it'\"'\"'s' --output_dir {job.run_dir}\n"
    )
    code, output = job.run(
        "torchrun.sbatch", "--run.micro_batch", "8", SLURM_ARRAY_TASK_ID="1", SWEEP=str(sweep)
    )
    assert code == 0, output
    rest = f"--config {recipe} --data.tokenizer  --name it's --output_dir {job.run_dir}"
    assert job.call("srun .*launch/torchrun.sh").endswith(f"--run.micro_batch 8 {rest}")
    assert (job.run_dir / "logs" / "10007.0").is_dir() and not (job.run_dir / "task-1").exists()


def test_a_misspelt_key_costs_no_preflight(job: Job) -> None:
    code, output = job.run("torchrun.sbatch", "--optim.learning_rate", "1")
    assert code == 2 and "unknown key 'optim.learning_rate'" in output
    assert not any(call.startswith("srun") for call in job.calls)


def test_pyxis_gets_the_image_and_the_project(job: Job) -> None:
    code, output = job.run(
        "torchrun.sbatch",
        *out(job),
        CONTAINER="reg/alphadecay:1",
        CONTAINER_ARGS="--container-env=A --container-writable",
    )
    assert code == 0, output
    for call in (call for call in job.calls if call.startswith("srun")):
        assert (
            f"--container-image=reg/alphadecay:1 --container-mounts={ROOT}:{ROOT} "
            f"--container-workdir={ROOT} --container-env=A" in call
        )
    assert (
        len([call for call in job.calls if call.startswith("srun") and "train where" in call]) == 1
    )


def test_apptainer_gets_the_image_and_the_gpus(job: Job) -> None:
    code, output = job.run(
        "torchrun.sbatch", *out(job), CONTAINER="image.sif", CONTAINER_ARGS="--bind /data"
    )
    assert code == 0, output
    assert (
        f"apptainer exec --nv --bind {ROOT} --pwd {ROOT} --bind /data image.sif bash"
        in job.call("srun .*launch/torchrun.sh")
    )


def test_the_deepspeed_launcher_gets_a_hostfile_and_its_traps_are_stepped_over(job: Job) -> None:
    code, output = job.run("deepspeed.sbatch", *out(job))
    assert code == 0, output
    assert (job.run_dir / "hostfile").read_text() == "n1 slots=8\nn2 slots=8\n"
    call = job.call("^deepspeed")
    assert "--launcher slurm --no_ssh_check --master_addr 127.0.0.1 --master_port 10014" in call
    assert (
        "--launcher_args=--ntasks-per-node=8 --cpus-per-task=6 --kill-on-bad-exit=1 "
        f"--output={job.run_dir}/logs/10007.0/rank-%t.log" in call
    )
    assert (
        f"{ROOT}/launch/slurm/rank.py --config train/recipes/quickstart.yaml" in call
        and "from rank 0" in output
    )
    assert job.run("deepspeed.sbatch", *out(job), CONTAINER="x.sif")[0] == 2
    code, output = job.run("deepspeed.sbatch", *out(job), NCCL_IB_HCA="mlx5_0,mlx5_1")
    assert code == 2 and "NCCL_IB_HCA: a value with a comma" in output


STOPPABLE = "until [[ -e $TRAIN_STOP_FILE ]]; do sleep 0.05; done"


@pytest.mark.parametrize(("name", "requeued"), [("USR1", True), ("TERM", False)])
def test_a_signal_makes_a_stop_file_and_only_the_time_limit_requeues(
    job: Job, name: str, requeued: bool
) -> None:
    job.leaves("stopped", 5, "stop file", then=STOPPABLE)
    started = job.start("torchrun.sbatch", *out(job))
    until(
        lambda: (
            (job.folder / "calls").exists()
            and any("torch.distributed.run" in call for call in job.calls)
        )
    )
    started.send_signal(getattr(signal, f"SIG{name}"))
    output = started.communicate(timeout=120)[0]
    assert f"SIG{name}: asking the run to stop" in output
    # the folder's own would stop whichever job has it
    assert [str(path.relative_to(job.run_dir)) for path in job.run_dir.rglob("stop")] == [
        "logs/10007.0/stop"
    ]
    assert ("scontrol requeue 10007" in job.calls) == requeued, output
    assert started.returncode == (-signal.SIGTERM if requeued else 0)


def test_a_disk_that_takes_no_stop_file_leaves_a_signal(job: Job) -> None:
    """The job script must live on: SLURM ends the ranks with it."""
    wait = 'until [[ -e "$LAUNCHED.signalled" ]]; do sleep 0.05; done'
    gone = 'rm -r "$(dirname "$TRAIN_STOP_FILE")"\ntouch "$LAUNCHED.began"'
    job.leaves("stopped", 5, "SIGTERM", then=f"{gone}\n{wait}")
    started = job.start("torchrun.sbatch", *out(job))
    until((job.folder / "launched.began").exists)
    started.send_signal(signal.SIGUSR1)
    output = started.communicate(timeout=120)[0]
    assert "scancel --signal=TERM 10007" in job.calls, output
    assert "scontrol requeue 10007" in job.calls and "stopped at step 5" in output


def test_the_time_budget_requeues_and_a_crash_does_not(job: Job) -> None:
    job.leaves("stopped", 5, "run.max_hours")
    assert (
        job.run("torchrun.sbatch", *out(job))[0] == -signal.SIGTERM
        and "scontrol requeue 10007" in job.calls
    )
    (job.folder / "calls").unlink()
    for state, code in (("failed", 3), ("running", 3)):
        job.leaves(state, 6)
        (job.folder / "launched").open("a").write("exit 3\n")
        assert job.run("torchrun.sbatch", *out(job))[0] == code
    assert not any(call.startswith("scontrol requeue") for call in job.calls)


def test_a_job_that_does_no_step_between_two_requeues_ends(job: Job) -> None:
    job.leaves("stopped", 5, "run.max_hours")
    job.run("torchrun.sbatch", *out(job))
    code, output = job.run("torchrun.sbatch", *out(job))
    assert code == 2 and "no step was done since the last requeue, at step 5" in output
    assert len([call for call in job.calls if call.startswith("scontrol requeue")]) == 1


def test_documents_that_were_prepared_are_progress(job: Job) -> None:
    for prepared in (100, 200):
        job.leaves("stopped", 0, "run.max_hours", prepared=prepared)
        assert job.run("torchrun.sbatch", *out(job))[0] == -signal.SIGTERM
    code, output = job.run("torchrun.sbatch", *out(job))
    assert code == 2 and "no step was done since the last requeue, at step 0" in output


def test_a_run_that_was_killed_in_its_last_save_goes_on_from_the_one_before(job: Job) -> None:
    """At each time limit it is still saving; state.json has the step of its newest checkpoint."""
    for step in (5, 9):
        job.leaves("running", step, then=STOPPABLE)
        started = job.start("torchrun.sbatch", *out(job))
        (job.folder / "calls").unlink(missing_ok=True)
        until(
            lambda: (
                (job.folder / "calls").exists()
                and any("torch.distributed.run" in call for call in job.calls)
            )
        )
        started.send_signal(signal.SIGUSR1)
        output = started.communicate(timeout=120)[0]
        assert f"requeued to go on from step {step}" in output


def test_the_job_says_when_it_began(job: Job) -> None:
    job.leaves("finished", 10, then='echo "$TRAIN_JOB_STARTED" >"$LAUNCHED.began"')
    before = int(time.time())
    assert job.run("torchrun.sbatch", *out(job))[0] == 0
    began = int((job.folder / "launched.began").read_text())
    assert before <= began <= time.time()


def test_a_stop_file_of_somebody_else_is_left_to_the_run(job: Job) -> None:
    """It may be for the job that has the folder, where this one will be refused."""
    job.run_dir.mkdir()
    (job.run_dir / "stop").touch()
    job.leaves("finished", 10)
    assert job.run("torchrun.sbatch", *out(job))[0] == 0 and (job.run_dir / "stop").exists()


def test_outside_a_job_it_says_how_to_submit_it(job: Job) -> None:
    job.environment.pop("SLURM_JOB_ID")
    code, output = job.run("torchrun.sbatch")
    assert code == 2 and "this is a job script: sbatch" in output


@pytest.mark.parametrize("script", ["torchrun.sbatch", "deepspeed.sbatch"])
def test_three_lines_are_to_be_edited_and_none_holds_a_hyper_parameter(script: str) -> None:
    text = (ROOT / "launch" / "slurm" / script).read_text()
    assert len(re.findall(r"\bEDIT:", text)) == 3
    assert not re.findall(r"--(?:run|optim|model|decay|data|eval)\.(?!key|seed)\w+", text)
