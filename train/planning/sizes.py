"""Says which ZeRO files and micro batches a run may have on a device, and which of them fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from train.config import TrainConfig
from train.config.run import AUTO
from train.config.validate import accumulation_steps, rows_per_rank
from train.engines.build import engine_kind, leaves_sharding_open, plan_engine
from train.engines.ds_config import find_ds_config
from train.models.kernels import loss_kernel
from train.planning.device import GB, Device
from train.planning.memory_table import MemoryTable, memory_table
from train.planning.model_shapes import model_without_weights

# Files of ds_configs from the least sharding to the most; each further one communicates more, and
# the last two leave the optimizer to the host's CPUs.
SHARDINGS = ("zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
# Costs the host half as much again as ZeRO-1 (tests/bench/results/h200-0.1), and saves less than
# ZeRO-3.
NOT_TAKEN = frozenset({"zero2"})
FILLED = 0.8  # of the memory; the rest is the allocator's, the engine's buffers' and the libraries'
ENOUGH_TOKENS = 2048  # of a micro batch, before more sharding is tried
CPU_TOKENS = 4096  # of a micro batch; more gain nothing on CPUs
_ADVICE = "--model.activation_checkpointing true, a smaller --data.sequence_length or more ranks"


@dataclass(frozen=True)
class Size:
    """What decides a run's memory.

    Args:
        ds_config: as deepspeed.config.
        micro_batch: rows a rank and forward pass.
    """

    ds_config: str
    micro_batch: int

    @property
    def offloads(self) -> bool:
        """True where the optimizer runs on the host's CPUs, which then decide the speed."""
        return self.ds_config.endswith("_offload.json")


def leaves_open(c: TrainConfig) -> bool:
    """Return whether there is anything to choose."""
    return c.run.micro_batch == AUTO or leaves_sharding_open(c)


class Sizes:
    """The sizes that a run may have on a device.

    Args:
        c: a run in which something is auto.
        ranks: that share the model.
        device: of each rank.
    """

    def __init__(self, c: TrainConfig, ranks: int, device: Device) -> None:
        self._c = c
        self._ranks = ranks
        self._device = device
        self._room = FILLED * device.memory
        self._files = _files(c, device)
        self._rows = _rows(c, ranks, device)
        self._enough = min(self._rows[0], ceil(ENOUGH_TOKENS / c.positions))

    def first(self, earlier: Size | None = None) -> Size | None:
        """Return the least sharding that fits enough rows, with the most rows that fit.

        Where none fits enough it is the one that fits most, and one that offloads only where no
        other fits at all. A run that goes on stays with its sharding if that fits.
        """
        if earlier is not None and self._is_there(earlier):
            size = self._most_rows(earlier.ds_config)
            if size is not None:
                return size
        for offloads in (False, True):
            fits = [
                size
                for file in self._files
                if Size(file, 1).offloads == offloads and (size := self._most_rows(file))
            ]
            if fits:
                enough = (size for size in fits if size.micro_batch >= self._enough)
                return next(enough, max(fits, key=lambda size: size.micro_batch))
        return None

    def smaller(self, size: Size) -> Size | None:
        """Return the size to try after one that ran out of memory; None after the last.

        Fewer rows need not take less: FSDP2 keeps gradients whole between two micro batches.
        """
        if self._c.run.micro_batch == AUTO:
            fewer = (rows for rows in self._rows if 2 * rows <= size.micro_batch)
            for less in (Size(size.ds_config, rows) for rows in fewer):
                if self._needed(less) < self._needed(size):
                    return less
        if not leaves_sharding_open(self._c):
            return None
        for file in self._files:
            if _place(file) > _place(size.ds_config):
                return self._most_rows(file) or Size(file, self._rows[-1])
        return None

    def can_keep(self, earlier: Size) -> bool:
        """Return whether a run that began with other ranks or another device may go on so.

        It ran with these sizes, so that no memory need be left free.
        """
        if rows_per_rank(self._c, self._ranks) % earlier.micro_batch:
            return False
        if not self._is_there(earlier):
            return False
        return self.table(self.resolved(earlier)).peak <= self._device.memory

    def resolved(self, size: Size, failures: int = 0) -> TrainConfig:
        """Return the configuration with a size in place of auto.

        eval.micro_batch, where it follows run.micro_batch and that is auto, is what fits, too: a
        validation has the logits in memory, which a training step need not have.

        Args:
            failures: sizes before this one that ran out of memory, in steps or in a validation.
        """
        if self._c.run.micro_batch != AUTO or self._c.eval.micro_batch:
            return _with(self._c, size, self._c.eval.micro_batch)
        tried = (_with(self._c, size, rows) for rows in self._rows)
        fits = (each for each in tried if self.table(each).in_evaluation <= self._room)
        most = next(fits, _with(self._c, size, 1)).eval.micro_batch
        rows = max(1, most >> failures)
        return _with(self._c, size, 0 if rows >= size.micro_batch else rows)

    def table(self, config: TrainConfig) -> MemoryTable:
        """Return the memory of a rank under a configuration without auto."""
        precision = config.run.precision
        if precision == "auto":
            precision = "bf16" if self._device.bf16 else "float32"
        config = replace(config, run=replace(config.run, precision=precision))
        plan = plan_engine(config, accumulation_steps(config, self._ranks), self._ranks)
        model = model_without_weights(config.model, config.positions)
        fused = loss_kernel(config.model, self._device.cuda, config.loss.z_loss) != "plain"
        return memory_table(config, model, plan, self._ranks, fused)

    def why(self, size: Size) -> str:
        """Return what keeps the micro batch from being larger, or the sharding from being less."""
        reasons = []
        further = _place(size.ds_config) > _place(self._files[0])
        if further and leaves_sharding_open(self._c):
            least = self._needed(Size(self._files[0], self._rows[-1]))
            name = _short(self._files[0])
            reasons.append(f"{name} with {self._rows[-1]} would take {least / GB:.3g} GB")
        larger = [rows for rows in self._rows if rows > size.micro_batch]
        if larger:
            more = self._needed(Size(size.ds_config, larger[-1]))
            reasons.append(f"{larger[-1]} would take {more / GB:.3g} GB")
        elif self._c.run.micro_batch == AUTO:
            whole = size.micro_batch == rows_per_rank(self._c, self._ranks)
            gain = f"more than {CPU_TOKENS:,} tokens gain nothing on CPUs"
            reasons.append("a rank's whole batch" if whole else gain)
        else:
            reasons.append("the least sharding that fits")
        return f"{', '.join(reasons)}; {1 - FILLED:.0%} stays free"

    def nothing_fits(self) -> str:
        """Return what is said where no size fits."""
        least, size = min(
            ((self._needed(size), size) for size in self._smallest()), key=lambda pair: pair[0]
        )
        evaluated = ", a smaller --eval.micro_batch" if self._c.eval.micro_batch else ""
        zero = engine_kind(self._c) == "deepspeed"
        given = "--run.micro_batch and --deepspeed.config" if zero else "--run.micro_batch"
        return (
            f"nothing fits {self._ranks} rank{'s' * (self._ranks > 1)} on {self._device}, of which "
            f"{1 - FILLED:.0%} stays free: the least, {in_words(self._c, size)}, takes about "
            f"{least / GB:.3g} GB; try {self.advice()}{evaluated}, or give {given} yourself"
        )

    def advice(self) -> str:
        """Return what a user can change so that a run needs less memory."""
        copies = engine_kind(self._c) == "fsdp2" and 0 < self._c.engine.shard < self._ranks
        return f"a larger --engine.shard, {_ADVICE}" if copies else _ADVICE

    def _is_there(self, size: Size) -> bool:
        """Return whether DeepSpeed's file still is, where the engine reads one."""
        return engine_kind(self._c) != "deepspeed" or find_ds_config(size.ds_config).is_file()

    def _smallest(self) -> Iterator[Size]:
        for file in self._files:
            yield Size(file, self._rows[-1])
            yield Size(file, self._rows[0])  # FSDP2: in one micro batch gradients are never whole

    def _most_rows(self, file: str) -> Size | None:
        sizes = (Size(file, rows) for rows in self._rows)
        return next((size for size in sizes if self._needed(size) <= self._room), None)

    def _needed(self, size: Size) -> int:
        """Return the bytes that decide whether a size fits.

        A validation does not where its rows are chosen after the size.
        """
        chosen = self._c.run.micro_batch == AUTO and not self._c.eval.micro_batch
        table = self.table(_with(self._c, size, self._c.eval.micro_batch))
        return table.in_steps if chosen else table.peak


def _files(c: TrainConfig, device: Device) -> tuple[str, ...]:
    if not leaves_sharding_open(c):
        return (c.deepspeed.config,)
    names = [name for name in SHARDINGS if name not in NOT_TAKEN]
    if not device.cuda:  # the host's memory is the device's
        names = [name for name in names if not name.endswith("_offload")]
    return tuple(f"ds_configs/{name}.json" for name in names)


def _rows(c: TrainConfig, ranks: int, device: Device) -> tuple[int, ...]:
    """Return the micro batches that there may be, the largest first."""
    if c.run.micro_batch != AUTO:
        accumulation_steps(c, ranks)
        return (c.run.micro_rows,)
    whole = rows_per_rank(c, ranks)
    most = whole if device.cuda else max(1, CPU_TOKENS // c.positions)
    return tuple(rows for rows in range(min(whole, most), 0, -1) if whole % rows == 0)


def _with(c: TrainConfig, size: Size, evaluated: int) -> TrainConfig:
    return replace(
        c,
        run=replace(c.run, micro_batch=size.micro_batch),
        eval=replace(c.eval, micro_batch=evaluated),
        deepspeed=replace(c.deepspeed, config=size.ds_config),
    )


def in_words(c: TrainConfig, size: Size) -> str:
    """Name the part of a size that was left open."""
    rows = f"a micro batch of {size.micro_batch}"
    if not leaves_sharding_open(c):
        return rows
    return f"{size.ds_config}" + (f" and {rows}" if c.run.micro_batch == AUTO else "")


def _short(file: str) -> str:
    return find_ds_config(file).stem


def _place(file: str) -> int:
    name = _short(file)
    return SHARDINGS.index(name) if name in SHARDINGS else len(SHARDINGS)
