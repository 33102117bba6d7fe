"""How docs/conf.py turns plain docstrings into what Sphinx reads, and that no room is left out."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def conf() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def converted(conf: ModuleType, text: str) -> str:
    """Return what the docstring becomes."""
    lines = text.splitlines()
    conf.plain_docstring(None, "function", "name", None, {}, lines)
    return "\n".join(lines).strip()


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("Takes `a_b` and *.py, not c_.", "Takes ``a_b`` and \\*.py, not c\\_."),
        ("One.\n    Two.", "One.\nTwo."),
        (
            "Do.\n\nArgs:\n    a: what\n        it is.\n    b, c: others.",
            "Do.\n\n:param a: what it is.\n:param b, c: others.",
        ),
        ("Do.\nRaises:\n    ValueError: it: cannot.", "Do.\n\n:raises ValueError: it: cannot."),
        ("Returns:\n    a number.", ":returns: a number."),
        ("a      b\nc      d", "::\n\n    a      b\n    c      d"),
        ("Shapes: x [M, N].\nReturns: y\n    [N].", "Shapes: x [M, N].\n\nReturns: y\n[N]."),
    ],
)
def test_docstrings_are_text(conf: ModuleType, text: str, becomes: str) -> None:
    assert converted(conf, text) == becomes


def test_every_module_is_on_a_page(conf: ModuleType) -> None:
    listed = {
        name
        for package in ("alphadecay", "train")
        for room in conf.rooms(package)
        for name in (room, *conf.modules(room))
    }
    there = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("alphadecay", "train")
        for path in (ROOT / package).rglob("*.py")
    }
    assert there - listed == conf.SKIPPED & there
