"""Runs that several tests look at, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.program import (
    PROGRAM,
    Outcome,
    recipe,
    run,
    start,
    write_corpus,
    write_recipe,
)


@dataclass(frozen=True)
class Workplace:
    """A folder with a corpus and a recipe; every run starts in it and writes below it."""

    folder: Path
    recipe: Path
    values: dict[str, Any]

    def start(self, launcher: str, output_dir: str, *arguments: str) -> Outcome:
        """Run the program with this recipe, started by deepspeed, torchrun or python."""
        return start(launcher, self.folder, *self.arguments(output_dir), *arguments)

    def run(self, ranks: int, output_dir: str, *arguments: str) -> Outcome:
        """Run the same without a launcher, on forked ranks: a start costs no imports."""
        return run(ranks, self.folder, PROGRAM, *self.arguments(output_dir), *arguments)

    def arguments(self, output_dir: str) -> list[str]:
        """Return the arguments of every run here."""
        folder = str(self.folder / output_dir)
        return ["--config", str(self.recipe), "--output_dir", folder]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The corpus is prepared by the first run in it."""
    folder = tmp_path_factory.mktemp("program")
    values = recipe(write_corpus(folder / "corpus"), folder / "prepared")
    return Workplace(folder, write_recipe(folder / "tiny.yaml", values), values)


@pytest.fixture(scope="session")
def finished(workplace: Workplace) -> Callable[[str], Path]:
    """The output_dir of an uninterrupted run by one launcher; "fsdp2" is that engine's."""
    done: dict[str, Path] = {}

    def run(launcher: str) -> Path:
        if launcher not in done:
            folder = f"whole-{launcher}"
            if launcher == "fsdp2":
                outcome = workplace.run(2, folder, "--engine.kind", "fsdp2")
            else:
                outcome = workplace.start(launcher, folder)
            assert outcome.code == 0, outcome.output
            done[launcher] = workplace.folder / f"whole-{launcher}"
        return done[launcher]

    return run
