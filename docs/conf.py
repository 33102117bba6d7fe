"""Sphinx's settings, and the reference's pages: one for each room of the code, made at each build.

The source folder is the project's own, so that pages link to each other as they do in the
repository. `make docs` builds the site.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import alphadecay  # noqa: E402

project = "AlphaDecay"
author = "The AlphaDecay contributors"
copyright = author
release = version = alphadecay.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "*/README.md",
    "*/**/README.md",
    "docs/**",
]
exclude_patterns = [".*", "build", "dist", "runs", "data", "AGENTS.md", "**/__pycache__"]
# Links to sources, which are no pages; parameters that are called as several attributes are.
suppress_warnings = ["myst.xref_missing", "ref.python"]

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
autodoc_default_options = {"members": True}
# Frameworks that need not be here for their callbacks and examples to be described.
autodoc_mock_imports = [
    name for name in ("lightning", "torchtitan", "spmd_types") if find_spec(name) is None
]
python_maximum_signature_line_length = 80

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
    """Write a room's page of the reference, with those of the rooms in it below, and return its
    name.
    """
    inner = [name for name in rooms(room.replace(".", "/")) if name.rpartition(".")[0] == room]
    lines = [f"# {room}", ""]
    for name in [room, *modules(room)]:
        title = [] if name == room else [f"## {name.removeprefix(f'{room}.')}", ""]
        members = "no-members" if name == room else "members"
        directive = ["```{eval-rst}", f".. automodule:: {name}", f"   :{members}:", "```", ""]
        lines += [*title, *directive]
    if inner:
        lines += ["```{toctree}", ":caption: Rooms", *inner, "```", ""]
    path = GENERATED / f"{room}.md"
    text = "\n".join(lines)
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


FIELDS = {"Args": "param", "Attributes": "ivar", "Raises": "raises"}
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


def entries(lines: list[str]) -> Iterator[str]:
    """Return the entries of a section, each in one line; deeper lines belong to the one before."""
    depth = min(len(line) - len(line.lstrip()) for line in lines)
    held = ""
    for line in lines:
        if held and not line[depth:].startswith(" "):
            yield held
            held = ""
        held = f"{held} {line.strip()}".strip()
    yield held


def section(word: str, lines: list[str]) -> Iterator[str]:
    """Return a section as fields; one that names nothing, or has no field, as text."""
    field = FIELDS.get(word)
    for entry in entries(lines):
        name, colon, text = entry.partition(": ")
        if field and colon and " " not in name.replace(", ", ","):
            yield f":{field} {name}: {markup(text)}"
        elif word in ("Returns", "Yields"):
            yield f":returns: {markup(entry)}"
        else:
            yield from (f"{word}: {markup(entry)}", "")


def restructured(paragraph: list[str]) -> Iterator[str]:
    """Return a paragraph as Sphinx reads it: a section, a drawing, or text without indentation."""
    first, *rest = paragraph
    header = HEADER.match(first)
    if header and rest:
        yield from section(header[1], rest)
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
