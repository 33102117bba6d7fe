"""Settings of length and batch, validation, checkpoints, engine and log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from train.config.ranges import at_least, greater_than

AUTO: Final = "auto"


@dataclass(frozen=True)
class RunConfig:
    """Length, batch and precision, and when to stop early.

    Args:
        steps: optimizer steps.
        global_batch: rows per optimizer step over all ranks.
        micro_batch: rows per rank and forward pass; global_batch must be a multiple of micro_batch
            x world size. auto takes the most that fit the device's memory.
        precision: auto takes bf16 with float32 masters where the hardware has it, else float32.
        seed: seed of the initialisation, of the order of the data and of anything else drawn.
        init_seed: of the initialisation alone; -1 takes seed.
        data_seed: of the order of the data alone; -1 takes seed.
        max_hours: stop by itself, in time for a checkpoint, this long after the start of the job:
            of the scripts in launch/slurm, else of the launcher; 0 has no limit.
        max_skipped_steps: stop when so many steps in a row had a loss or gradient that is not
            finite; 0 never does.
        deterministic: take only kernels that give the same bits every time, on a GPU too: slower,
            most of all in the backward of attention, and refused where an operation has none.
        spike_sd: report a loss so many standard deviations above its running mean; 0 reports none.
    """

    steps: Annotated[int, at_least(1)] = 10000
    global_batch: Annotated[int, at_least(1)] = 512
    micro_batch: Annotated[int | Literal["auto"], at_least(1)] = AUTO
    precision: Literal["auto", "bf16", "float32"] = "auto"
    seed: Annotated[int, at_least(0)] = 42
    init_seed: Annotated[int, at_least(-1)] = -1
    data_seed: Annotated[int, at_least(-1)] = -1
    max_hours: Annotated[float, at_least(0)] = 0.0
    max_skipped_steps: Annotated[int, at_least(0)] = 10
    deterministic: bool = False
    spike_sd: Annotated[float, at_least(0)] = 6.0

    @property
    def micro_rows(self) -> int:
        """Return micro_batch where it is a number.

        Raises:
            ValueError: it is still auto: train/planning/auto.py chooses one, given the device.
        """
        if isinstance(self.micro_batch, str):
            raise ValueError("run.micro_batch is auto; choose it for a device first")
        return self.micro_batch

    @property
    def seed_of_init(self) -> int:
        """Return the seed that the initialisation is drawn from."""
        return self.seed if self.init_seed < 0 else self.init_seed

    @property
    def seed_of_data(self) -> int:
        """Return the seed that the order of the data is drawn from."""
        return self.seed if self.data_seed < 0 else self.data_seed


@dataclass(frozen=True)
class EvalConfig:
    """Validation.

    Args:
        every: optimizer steps between validations; also before the first step and after the last.
        tokens: validation tokens used, at most; 0 uses all.
        micro_batch: rows per rank and forward pass; 0 means run.micro_batch.
        published_batch: rows of a batch, over all ranks, of the published code's figure, which
            depends on it; see train/tasks/language_modelling/evaluation.py.
        probe_step: the optimizer step whose rows are followed: every validation says their loss
            beside that of held-out text, which they were like before that step; 0 follows none.
            Best a step with a validation, in a run that reads its text once.
        downstream: optimizer steps between asking the tasks of lm-eval, also after the last; 0
            asks none. It takes the extra `zeroshot`.
        downstream_tasks: names of tasks that are answered by likelihood; paper stands for the
            paper's seven.
        downstream_limit: questions of each task, at most; 0 asks all.
        downstream_folder: of task YAML files of your own; empty for none.
    """

    every: Annotated[int, at_least(1)] = 500
    tokens: Annotated[int, at_least(0)] = 2_000_000
    micro_batch: Annotated[int, at_least(0)] = 0
    published_batch: Annotated[int, at_least(1)] = 512
    probe_step: Annotated[int, at_least(0)] = 0
    downstream: Annotated[int, at_least(0)] = 0
    downstream_tasks: tuple[str, ...] = ("paper",)
    downstream_limit: Annotated[int, at_least(0)] = 0
    downstream_folder: str = ""


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints.

    Args:
        every: optimizer steps between checkpoints; one more is written at the end. 0 writes only
            that one.
        keep: newest complete checkpoints kept; 0 keeps all.
        keep_every: checkpoints of steps that are a multiple of this are kept for good; 0 keeps none
            so.
        max_failures: saves that may fail in a row, the disk being full, before the run stops; the
            last save must not fail.
        convert: auto goes on from a checkpoint of another world size, ZeRO stage or engine by
            converting it; never refuses it.
        asynchronous: true has a save copy the state to the host's memory and the training go on
            while a process beside each rank writes it; false has it wait until all is written. auto
            is true where a tenth of the host's memory stays free beside the copies, else false;
            where there is no room at all, true is false, too. A run's last save is never so.
            Short: checkpoint.async.
    """

    every: Annotated[int, at_least(0)] = 1000
    keep: Annotated[int, at_least(0)] = 2
    keep_every: Annotated[int, at_least(0)] = 0
    max_failures: Annotated[int, at_least(1)] = 3
    convert: Literal["auto", "never"] = "auto"
    asynchronous: bool | Literal["auto"] = "auto"


@dataclass(frozen=True)
class DeepSpeedConfig:
    """The engine.

    Args:
        config: DeepSpeed JSON, by its path or its name in ds_configs; it owns ZeRO, everything the
            recipe owns is "auto" there. auto takes the file of ds_configs that shards least and
            fits the device's memory.
        timeout_minutes: limit of every collective.
        leaf_layers: ZeRO-3 gathers and releases each decoder layer as a whole, not each of its
            matrices; much less work for the host, same results. Without it model.compile gains
            little: compiled code ends wherever ZeRO-3 gathers.
    """

    config: str = AUTO
    timeout_minutes: Annotated[float, greater_than(0)] = 30.0
    leaf_layers: bool = True


@dataclass(frozen=True)
class LogConfig:
    """Settings of what is written while it runs.

    Args:
        every: optimizer steps between training lines in metrics.jsonl; the first and the last step
            have one too.
        dynamics: optimizer steps between lines that say what a step did to each weight matrix: how
            far it turned it, beside the angle at which decay and updates balance, the growth of
            its norm, its effective learning rate (arXiv 1706.05350, 2305.17212). Validations then
            say how large logits are, of attention and the output (2309.14322). Such a step keeps a
            copy of the float32 weights that a rank holds; 0 measures nothing.
        wandb: also send metrics to Weights & Biases (WANDB_MODE=offline works).
        wandb_project: its project.
        tensorboard: also write metrics for TensorBoard, to output_dir/tensorboard.
        progress: auto draws a live bar on a terminal and plain lines elsewhere; off is silent.
        peak_tflops: TFLOP/s of one rank's device that MFU is stated against; auto is a known GPU's
            data sheet, else a matmul timed here.
        profile_from: first step of a torch.profiler trace of rank 0, written to output_dir; 0
            traces nothing.
        profile_steps: steps of the trace.
    """

    every: Annotated[int, at_least(1)] = 10
    dynamics: Annotated[int, at_least(0)] = 0
    wandb: bool = False
    wandb_project: str = "alphadecay"
    tensorboard: bool = False
    progress: Literal["auto", "bar", "lines", "off"] = "auto"
    peak_tflops: Annotated[float | Literal["auto"], greater_than(0)] = "auto"
    profile_from: Annotated[int, at_least(0)] = 0
    profile_steps: Annotated[int, at_least(1)] = 3
