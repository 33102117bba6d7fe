"""Sphinx's settings, and the reference's pages: one for each room of the code, made at each build.

The source folder is the project's own, so that pages link to each other as they do in the repository:
`make docs`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import alphadecay  # noqa: E402

project = "AlphaDecay"
author = "The AlphaDecay contributors"
copyright = author
release = version = alphadecay.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "*/README.md",
    "train/**/README.md",
    "docs/**",
]
exclude_patterns = [".*", "build", "dist", "runs", "data", "AGENTS.md", "**/__pycache__"]
suppress_warnings = ["myst.xref_missing"]  # links to sources, which are no pages

html_theme = "furo"
html_title = f"AlphaDecay {release}"
html_extra_path = ["entry"]
html_show_sourcelink = False
html_copy_source = False
myst_heading_anchors = 3
pygments_style = "friendly"
pygments_dark_style = "monokai"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Shapes", "Source"]

GENERATED = ROOT / "docs" / "reference"
SKIPPED = {"train.__main__", "train.pretrain", "train.export.__main__"}  # they run when imported


def rooms(package: str) -> Iterator[str]:
    """Return a package and the packages below it, as dotted names."""
    folder = ROOT / package
    for init in sorted(folder.rglob("__init__.py")):
        yield ".".join(init.parent.relative_to(ROOT).parts)


def modules(room: str) -> list[str]:
    """Return the modules of a room, without those of the rooms in it."""
    folder = ROOT / room.replace(".", "/")
    names = (f"{room}.{path.stem}" for path in sorted(folder.glob("*.py")))
    return [name for name in names if name not in SKIPPED and not name.endswith(".__init__")]


def write_page(room: str) -> str:
    """Write a room's page of the reference and return its name."""
    lines = [f"# {room}", ""]
    for name in [room, *modules(room)]:
        title = [] if name == room else [f"## {name.removeprefix(f'{room}.')}", ""]
        members = "no-members" if name == room else "members"
        directive = ["```{eval-rst}", f".. automodule:: {name}", f"   :{members}:", "```", ""]
        lines += [*title, *directive]
    text = "\n".join(lines)
    path = GENERATED / f"{room}.md"
    if not path.exists() or path.read_text() != text:  # unchanged pages are not read again
        path.write_text(text)
    return path.stem


def write_reference() -> None:
    """Write the reference's pages; those of rooms that are gone are removed."""
    GENERATED.mkdir(exist_ok=True)
    pages = [write_page(room) for package in ("alphadecay", "train") for room in rooms(package)]
    for path in GENERATED.glob("*.md"):
        if path.stem not in pages:
            path.unlink()


WORDS = "Args|Attributes|Returns|Raises|Yields|Errors|Shapes|Source"
HEADER = re.compile(rf"({WORDS}):$")
INLINE = re.compile(rf"({WORDS}): ")


def markup(line: str) -> str:
    """Return a line of a docstring with only its code marked up; nothing else has a meaning."""
    parts = re.split(r"(`+[^`]+`+)", line)
    return "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else re.sub(r"([\\*|]|_\b)", r"\\\1", part)
        for part in parts
    )


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Return the paragraphs; a section begins one, whether or not a blank line is before it."""
    held: list[str] = []
    for line in lines:
        begins = HEADER.match(line) or INLINE.match(line)
        if held and (begins or not line.strip()):
            yield held
            held = []
        if line.strip():
            held.append(line)
    if held:
        yield held


def restructured(paragraph: list[str]) -> Iterator[str]:
    """Return a paragraph as Sphinx reads it: a section, a drawing, or text without indentation."""
    first, *rest = paragraph
    if HEADER.match(first):
        indent = "" if rest and rest[0].startswith(" ") else "    "
        yield from (first, *(indent + markup(line) for line in rest))
    elif any(re.search(r"\S {3,}\S", line) for line in paragraph):
        yield from ("::", "", *(f"    {line}" for line in paragraph))
    else:
        yield from (markup(line.strip()) for line in paragraph)
    yield ""


def plain_docstring(*event: Any) -> None:
    """Turn a docstring, which is plain text with names in backticks, into what Sphinx reads."""
    lines: list[str] = event[-1]
    lines[:] = [line for part in paragraphs(lines) for line in restructured(part)]


def setup(app: Any) -> None:
    """Write the reference before the pages are read."""
    write_reference()
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)
