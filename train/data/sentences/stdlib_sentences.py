"""A classification that needs no data: from which package of the running Python's library a
sentence of a docstring is.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from train.data.sentences.rows import RawRow
from train.data.sources.stdlib import stdlib_paths

# Those that every build of Python has, and that have several hundred sentences each.
PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "typing", "unittest", "xml")
TEXT = "sentence"
LABEL = "package"
_LETTERS = range(20, 201)  # of a sentence
_HELD_OUT = 4  # of each so many sentences one is for validation
_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def stdlib_rows(split: str) -> Iterator[RawRow]:
    """Yield the sentences of a split, each once; the other split has others.

    Which split a sentence is in depends on nothing but itself.
    """
    root = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for path in stdlib_paths():
        package = path.relative_to(root).parts[0].removesuffix(".py")
        if package not in PACKAGES:
            continue
        for number, sentence in enumerate(_sentences(path), 1):
            if sentence in seen:
                continue
            seen.add(sentence)
            if (split == "validation") == _is_held_out(sentence):
                yield RawRow(str(path), number, {TEXT: sentence, LABEL: package})


def version() -> str:
    """Return what the sentences depend on."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def _is_held_out(sentence: str) -> bool:
    return hashlib.sha256(sentence.encode()).digest()[0] % _HELD_OUT == 0


def _sentences(path: Path) -> Iterator[str]:
    """Yield the sentences of all docstrings of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its escape sequences
        tree = ast.parse(path.read_bytes())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        for paragraph in _PARAGRAPH.split(text or ""):
            for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
                if len(sentence) in _LETTERS:
                    yield sentence
