"""The program from its command to its first step, in a process of its own, without compiling."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import startup
from tests.bench.common import ROOT
from tests.gpu.cases import Case, Figures, Session


def cases() -> Iterator[Case]:
    """Yield the one case."""
    yield Case("start-up", "60m", 30.0, lambda session: start("llama_60m", session))


def start(recipe: str, session: Session) -> Figures:
    """Start once; the files that the first import of a package reads have been read here."""
    recipe = "quickstart" if session.toy else recipe
    data = session.folder.resolve()
    startup.prepare(ROOT, recipe, data)
    figures = startup.timed(ROOT, "python", 1, recipe, data)
    wall = {part: clocks["wall"] for part, clocks in figures["parts"].items()}
    return {"command": figures["command"], "cpu": figures["cpu"], "parts": wall}
