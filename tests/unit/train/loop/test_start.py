"""What a start writes into output_dir, on a disk that fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from train import checkpoint
from train.checkpoint.beginning import Beginning
from train.errors import UserError
from train.loop import build


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_run_starts_without_a_copy_of_its_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task: Any = SimpleNamespace(keep=fail)
    build._keep(task, tmp_path)
    said = capsys.readouterr().err
    assert f"need is not copied to {tmp_path}: No space left on device" in said


def test_a_run_does_not_start_where_it_cannot_be_noted_how_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "write_beginning", fail)
    resume = checkpoint.Resume("never", beginning=Beginning("never", "b", {}))
    with pytest.raises(UserError, match=r"output_dir: cannot write to .*: No space left on device"):
        build._note_start(tmp_path, resume)
