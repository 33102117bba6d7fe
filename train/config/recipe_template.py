"""A configuration as a commented recipe: every key in order, what it means and what it takes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import yaml

from train.config import TrainConfig
from train.config.command_line import dump_config
from train.config.key_docs import allowed, key_docs
from train.config.key_registry import known_keys

_WIDTH = 98
_HEADER = """\
# Every key of a recipe, with what it means and what it takes. Keys may be left out: those that
# are have their default. Give the file to the program as
#   deepspeed train/pretrain.py --config FILE [--section.key VALUE ...]

"""


def recipe_template(config: TrainConfig) -> str:
    """Return a recipe of the configuration; it loads back to an equal one."""
    values = yaml.safe_load(dump_config(config))
    defaults = yaml.safe_load(dump_config(TrainConfig()))
    docs = key_docs()
    blocks = [_HEADER]
    section = ""
    for key in known_keys():
        name, _, leaf = key.rpartition(".")
        if name != section:
            section = name
            blocks.append(f"\n# {docs[name]}\n{name}:\n")
        value = values[name][leaf] if name else values[leaf]
        default = defaults[name][leaf] if name else defaults[leaf]
        indent = "  " if name else ""
        comment = f"{docs[key]} ({allowed(key)}; default {_yaml(default)})"
        blocks.append("\n".join([*_comment(comment, indent), f"{indent}{leaf}: {_yaml(value)}\n"]))
    return "".join(blocks)


def _comment(text: str, indent: str) -> Iterator[str]:
    start = f"{indent}# "
    yield from textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _yaml(value: object) -> str:
    """Return a value on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
