"""The messages that docs/troubleshooting.md quotes as ours are the sources'."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
HOLE = "…"  # what differs from case to case
QUOTED = [
    line
    for block in re.findall(r"^```text\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


@cache
def messages() -> tuple[str, ...]:
    """Every string of the program and the library, with a hole for each value put in."""
    return tuple(
        text
        for folder in ("alphadecay", "train")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if (text := _text(node))
    )


def _text(node: ast.AST) -> str:
    """Return a string's text in one line; empty for what is no string."""
    if isinstance(node, ast.JoinedStr):
        whole = "".join(
            str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values
        )
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        whole = node.value
    else:
        whole = ""
    return " ".join(whole.split())


def is_said(line: str) -> bool:
    """Return whether one message has all that stands between the holes, in this order."""
    pieces = [re.escape(piece) for piece in re.split(rf"\s*{HOLE}\s*", line) if piece]
    return any(re.search(".*".join(pieces), message) for message in messages())


def test_there_are_messages() -> None:
    assert len(QUOTED) >= 15


@pytest.mark.parametrize("line", QUOTED)
def test_each_is_said(line: str) -> None:
    assert is_said(line)


def test_another_is_not() -> None:
    assert not is_said("rank … has no TPU: local rank …")
