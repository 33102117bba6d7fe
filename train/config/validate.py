"""Checks whether a configuration can run: every value in its range, and choices that agree.

The ranges themselves stand on the fields, see train/config/ranges.py; what must agree stands in
train/config/agreements.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from train.config import TrainConfig
from train.config.agreements import Wrong, disagreements, out_of_range, unusable_texts
from train.errors import Problems, UserError


def validate(config: TrainConfig) -> None:
    """Check ranges and agreements before anything is built.

    Raises:
        UserError: every wrong value, by its key, with what it should be.
    """
    problems = Problems()
    check_values(config, problems, {})
    problems.raise_any()


def check_values(config: TrainConfig, problems: Problems, places: Mapping[str, str]) -> None:
    """Note every wrong value.

    Choices are not compared with others that are in doubt already: a second message would only be a
    consequence of the first.

    Args:
        problems: takes the notes.
        places: key -> where it stands, such as "in mine.yaml, line 3".
    """
    for found in (*out_of_range(config), *unusable_texts(config)):
        _note(found, problems, places)
    for found in disagreements(config):
        _note(found, problems, places)


def _note(found: Wrong, problems: Problems, places: Mapping[str, str]) -> None:
    key = found.key.partition("[")[0]  # entries of a list share its place
    if problems.in_doubt(found.key, *found.others):
        return
    place = f" {places[key]}" if key in places else ""
    problems.add(f"{found.key} is {found.value}{place}{found.fault}", found.key)


def accumulation_steps(config: TrainConfig, world_size: int) -> int:
    """Return the micro batches per optimizer step on each rank.

    Raises:
        UserError: run.global_batch is no multiple of run.micro_batch x world_size; the message
            names batches that are.
    """
    if world_size < 1:
        raise UserError(f"world size is {world_size}; it must be at least 1")
    batch = config.run.global_batch
    micro = config.run.micro_batch
    rows = micro * world_size
    if batch % rows == 0:
        return batch // rows
    below = batch // rows * rows
    above = (batch // rows + 1) * rows
    nearest = f"{below} or {above}" if below else str(above)
    micros = [
        size
        for size in range(min(micro, batch // world_size), 0, -1)
        if batch % (size * world_size) == 0
    ]
    smaller = f", or --run.micro_batch {micros[0]}" if micros else ""
    raise UserError(
        f"run.global_batch is {batch}, which is no multiple of run.micro_batch x world size = "
        f"{micro} x {world_size} = {rows}; "
        f"set --run.global_batch {nearest}{smaller}"
    )
