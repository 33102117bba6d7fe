"""Checks whether a configuration can run: every value in its range, and choices that agree.

The ranges themselves stand on the fields, see train/config/ranges.py; what must agree stands in
train/config/agreements.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from train.config import TrainConfig
from train.config.agreements import Wrong, disagreements, out_of_range, unusable_texts
from train.config.run import AUTO
from train.config.sentence_agreements import sentence_disagreements
from train.errors import Problems, UserError


def check_values(config: TrainConfig, problems: Problems, places: Mapping[str, str]) -> None:
    """Note every value that is out of its range or disagrees with another.

    Choices are not compared with others that are in doubt already: a second message would only be a
    consequence of the first.

    Args:
        problems: takes the notes.
        places: key -> where it stands, such as "in mine.yaml, line 3".
    """
    for found in (*out_of_range(config), *unusable_texts(config)):
        _note(found, problems, places)
    for found in (*disagreements(config), *sentence_disagreements(config)):
        _note(found, problems, places)


def _note(found: Wrong, problems: Problems, places: Mapping[str, str]) -> None:
    key = found.key.partition("[")[0]  # entries of a list share its place
    if problems.in_doubt(found.key, *found.others):
        return
    place = f" {places[key]}" if key in places else ""
    problems.add(f"{found.key} is {found.value}{place}{found.fault}", found.key)


def check_batch(config: TrainConfig, world_size: int) -> None:
    """Refuse a global batch that the ranks cannot share, whether or not micro_batch is known yet.

    Raises:
        UserError: as `accumulation_steps` and `rows_per_rank`.
    """
    if config.run.micro_batch == AUTO:
        rows_per_rank(config, world_size)
    else:
        accumulation_steps(config, world_size)


def rows_per_rank(config: TrainConfig, world_size: int) -> int:
    """Return the rows of a global batch on each rank, which micro_batch must divide.

    Raises:
        UserError: run.global_batch is no multiple of the world size; the message names batches that
            are.
    """
    _check_world(world_size)
    batch = config.run.global_batch
    if batch % world_size == 0:
        return batch // world_size
    raise UserError(
        f"run.global_batch is {batch}, which is no multiple of the world size {world_size}; set "
        f"--run.global_batch {_nearest(batch, world_size)}, or start another number of ranks"
    )


def accumulation_steps(config: TrainConfig, world_size: int) -> int:
    """Return the micro batches per optimizer step on each rank.

    Raises:
        UserError: run.global_batch is no multiple of run.micro_batch x world_size; the message
            names batches that are.
    """
    _check_world(world_size)
    batch = config.run.global_batch
    micro = config.run.micro_rows
    rows = micro * world_size
    if batch % rows == 0:
        return batch // rows
    micros = [
        size
        for size in range(min(micro, batch // world_size), 0, -1)
        if batch % (size * world_size) == 0
    ]
    smaller = f", or --run.micro_batch {micros[0]}" if micros else ""
    raise UserError(
        f"run.global_batch is {batch}, which is no multiple of run.micro_batch x world size = "
        f"{micro} x {world_size} = {rows}; "
        f"set --run.global_batch {_nearest(batch, rows)}{smaller}"
    )


def _check_world(world_size: int) -> None:
    if world_size < 1:
        raise UserError(f"world size is {world_size}; it must be at least 1")


def _nearest(batch: int, unit: int) -> str:
    """Name the multiples of `unit` on both sides of a batch; 0 is none."""
    below = batch // unit * unit
    above = below + unit
    return f"{below} or {above}" if below else str(above)
