"""The words of a command line -> recipes and overrides, not yet typed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from train.config.key_registry import (
    COMMAND_LINE,
    SPELLED_OUT,
    Setting,
    as_text,
    known_keys,
)
from train.config.nested_lists import is_list
from train.config.unknown_keys import check_known
from train.errors import Problems, UserError

_DRY_RUN_ONLY = {
    "--world-size": "a run has the ranks that its launcher starts",
    "--device": "a run takes the GPU of its rank, or the CPUs with DS_ACCELERATOR=cpu",
}
SHORT = {"max-hours": "run.max_hours"}  # what one gives to a job rather than to a recipe


def split_arguments(
    arguments: Sequence[str], problems: Problems, where: str = COMMAND_LINE
) -> tuple[list[str], list[Setting]]:
    """Return the recipes, and the overrides in order; the launcher's --local_rank is dropped.

    Args:
        arguments: as they were typed.
        problems: takes notes of unknown keys, stray words and missing values.
        where: the place to point at.
    """
    files = []
    overrides = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if not argument.startswith("--"):
            problems.add(
                f"unexpected {argument!r} {where}: write --section.key VALUE, or --config FILE.yaml"
            )
            continue
        key, equals, text = argument[2:].partition("=")
        key = (SHORT | SPELLED_OUT).get(key, key)
        values = [text] if equals else _take_values(queue, known_keys().get(key))
        if key == "config":
            files += values[:1]
        if key.replace("-", "_") == "local_rank":
            continue
        if key != "config" and not check_known(key, where, problems):
            continue
        if not values:
            # without its recipe, nothing can be said of the other settings
            doubtful = known_keys() if key == "config" else (key,)
            problems.add(f"--{key} has no value {where}", *doubtful)
        elif key != "config":
            overrides += _override(key, values, problems, where)
    return files, overrides


def read_overrides(words: Sequence[str]) -> tuple[list[str], dict[str, Setting]]:
    """Return recipes and overrides by key, as `split_arguments` finds them.

    Raises:
        UserError: whatever is wrong with the words.
    """
    problems = Problems()
    files, settings = split_arguments(words, problems)
    overrides = once(settings, problems)
    problems.raise_any()
    return files, overrides


def once(settings: Iterable[Setting], problems: Problems) -> dict[str, Setting]:
    """Return the settings by key.

    Two values for one key are a mistake, even if the later one would win elsewhere.
    """
    seen: dict[str, Setting] = {}
    for setting in settings:
        first = seen.setdefault(setting.key, setting)
        if first.text != setting.text:
            problems.add(
                f"{setting.key} has two values: {first.text!r} {first.where}, {setting.text!r} "
                f"{setting.where}; give it once",
                setting.key,
            )
    return seen


@dataclass(frozen=True)
class DryRunFlags:
    """What `--dry-run [--world-size N] [--device NAME]` asks for.

    Args:
        ranks: of the run that is meant.
        device: what each computes on; empty for this machine's.
    """

    ranks: int
    device: str


def split_dry_run(
    arguments: Sequence[str], world_size: int
) -> tuple[list[str], DryRunFlags | None]:
    """Return the other arguments, and the flags of a dry run; None where none is asked for.

    Args:
        arguments: as they were typed.
        world_size: ranks of this launch, which --world-size defaults to.

    Raises:
        UserError: a flag of a dry run without --dry-run or without a value, or no number of ranks.
    """
    rest = [argument for argument in arguments if argument != "--dry-run"]
    asked = len(rest) < len(arguments)
    values = {"--world-size": str(world_size), "--device": ""}
    for flag, instead in _DRY_RUN_ONLY.items():
        at = next((at for at, word in enumerate(rest) if word.partition("=")[0] == flag), None)
        if at is None:
            continue
        if not asked:
            raise UserError(f"{flag} goes with --dry-run; {instead}")
        _, equals, text = rest[at].partition("=")
        values[flag] = text if equals else "".join(rest[at + 1 : at + 2])
        if not values[flag]:
            raise UserError(f"{flag} has no value")
        rest = rest[:at] + rest[at + (1 if equals else 2) :]
    ranks = values["--world-size"]
    if not ranks.isdecimal() or int(ranks) < 1:
        raise UserError(f"--world-size takes a number of ranks, not {ranks!r}")
    return rest, DryRunFlags(int(ranks), values["--device"]) if asked else None


def _take_values(queue: list[str], kind: Any) -> list[str]:
    """Take the values that follow a key from the queue.

    A list takes as many as there are, since the shell expands globs; any other key takes one.
    """
    values: list[str] = []
    while queue and not queue[0].startswith("--") and (not values or is_list(kind)):
        values.append(queue.pop(0))
    return ["true"] if not values and kind is bool else values


def _override(key: str, values: list[str], problems: Problems, where: str) -> list[Setting]:
    try:
        return [Setting(key, as_text(values, known_keys()[key], where, key), where)]
    except UserError as error:
        problems.add(str(error), key)
        return []
