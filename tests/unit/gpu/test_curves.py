"""The curves of what ideas about decay do on a GPU."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.gpu.curves import curves, write_curves

PART = {
    "Uniform": {"validations": [[0, 9.0], [30, 6.0], [60, 5.2]], "tokens": 2_000_000},
    "LLR": {"validations": [[0, 9.0], [30, 6.5], [60, 5.1]], "tokens": 2_000_000},
    "LAWN": {"out_of_memory": "CUDA out of memory."},
}


def test_the_best_at_the_end_comes_first_and_what_failed_has_none() -> None:
    found = curves(PART)
    assert list(found) == ["LLR", "Uniform"]
    assert found["LLR"] == [(0.0, 9.0), (0.5, 6.5), (1.0, 5.1)]


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "evidence.png"
    write_curves(path, {"machine": {"device": "NVIDIA H200"}, "parts": {"evidence": PART}})
    with Image.open(path) as picture:
        shades = picture.convert("L").getextrema()
        assert picture.width > 1000 and shades[0] < 50 < 250 < shades[1]
