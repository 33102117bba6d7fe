"""Architectures that DeepSpeed's builder can read."""

from __future__ import annotations

import pytest

from tests.gpu.hardware import readable_architectures


@pytest.mark.parametrize(
    ("listed", "readable"),
    [
        ("", "9.0"),
        ("9.0a", "9.0"),
        ("8.0;9.0a+PTX", "8.0;9.0+PTX"),
        ("8.0 10.0f", "8.0 10.0"),
    ],
)
def test_a_letter_is_taken_off(listed: str, readable: str) -> None:
    assert readable_architectures(listed, (9, 0)) == readable
