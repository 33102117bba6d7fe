"""Tables fit a terminal, and are whole in a pipe."""

from __future__ import annotations

import pytest

from alphadecay.inspect.terminal import number, shorten, table

HEAD = ["weight", "alpha"]
ROWS = [[f"model.layers.{n}.self_attn.q_proj.weight", "2.000"] for n in (0, 10)]


def test_a_pipe_gets_whole_names() -> None:
    lines = table(HEAD, ROWS, None).splitlines()
    assert [line.split() for line in lines] == [HEAD, *ROWS]


def test_a_narrow_terminal_gets_names_without_what_all_have() -> None:
    lines = table(HEAD, ROWS, 40).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["0.self_attn.q_proj", "2.000"],
        ["10.self_attn.q_proj", "2.000"],
    ]
    assert lines[3] == "(names below model.layers and without .weight)"


@pytest.mark.parametrize("columns", [30, 40, 80, 200])
def test_no_line_is_too_long(columns: int) -> None:
    rows = [*ROWS, ["lm_head.dense.weight", "1"], ["x" * 300 + ".weight", "2"]]
    assert all(len(line) <= max(columns, 46) for line in table(HEAD, rows, columns).splitlines())


def test_names_are_shortened_in_the_middle() -> None:
    assert shorten("abcdefghijklmnop", 10) == "abc...mnop"
    assert shorten("abcdefghij", 10) == "abcdefghij"


def test_a_dash_stands_for_no_number() -> None:
    assert [number(float("nan")), number(1.25, ".1f")] == ["-", "1.2"]
