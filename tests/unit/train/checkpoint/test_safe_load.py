"""Nothing of ours unpickles a file in full: torch.load is told weights_only, numpy may not pickle,
and pickle itself is not there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

from tests.foreign import Touch
from train.checkpoint.safe_load import restricted, safe_load, why_unsafe

_PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


EXEMPT = (
    "alphadecay/inspect/sources/dcp.py",  # finds a list of classes: test_dcp.py
    "train/loop/hanging/evidence.py",  # what torch's flight recorder gives of its own memory
)


def findings(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            # what the loader raises, and what only writes
            if {a.name for a in node.names} <= {"UnpicklingError", "Pickler"}:
                names = []
            yield from (f"imports {name}" for name in names if name.split(".")[0] in _PICKLERS)
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
                "torch",
                "numpy",
            ):
                yield from (
                    f"imports {node.module}.load under another name"
                    for a in node.names
                    if a.name == "load"
                )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            name = node.func.attr
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if (owner, name) == ("torch", "load") and given.get("weights_only") != "True":
                yield "torch.load without weights_only=True"
            if given.get("allow_pickle", "False") != "False":
                yield f"{name} with allow_pickle"
            if name in ("read_pickle", "unsafe_load", "full_load"):
                yield f"{owner}.{name}"


def test_no_source_unpickles_in_full(root: Path) -> None:
    sources = [path for folder in ("train", "alphadecay") for path in (root / folder).rglob("*.py")]
    for path in EXEMPT:
        sources.remove(root / path)
    assert len(sources) > 40
    assert [
        f"{path}: {finding}" for path in sources for finding in findings(path.read_text())
    ] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "from pickle import UnpicklingError, loads",
        "import torch\ntorch.load('f')",
        "torch.load('f', weights_only=False)",
        "torch.load('f', weights_only=flag)",
        "np.load('f', allow_pickle=True)",
        "from torch import load",
        "pd.read_pickle('f')",
    ],
)
def test_the_check_sees_a_violation(source: str) -> None:
    assert len(list(findings(source))) == 1


def test_the_check_lets_restricted_loads_pass() -> None:
    assert not list(
        findings(
            "torch.load('f', map_location='cpu', weights_only=True)\nnp.load('f')\nnp.load('f', "
            "allow_pickle=False)"
        )
    )


class Bomb:
    def __reduce__(self):
        return (open, ("/dev/null",))


def test_what_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"step": 1, "more": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(UnpicklingError):
        safe_load(tmp_path / "bomb.pt")
    torch.save({"step": 1}, tmp_path / "plain.pt")
    assert safe_load(tmp_path / "plain.pt") == {"step": 1}


@pytest.mark.parametrize("zipped", [True, False])
def test_deepspeeds_own_loads_run_no_code_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # what a user may have set
    file = tmp_path / "x.pt"
    torch.save(Touch(tmp_path / "ran"), file, _use_new_zipfile_serialization=zipped)
    engine = TorchCheckpointEngine()
    with restricted(), pytest.raises(UnpicklingError):
        engine.load(str(file))
    assert not (tmp_path / "ran").exists()
    engine.load(str(file))  # as it would be without
    assert (tmp_path / "ran").exists()
    torch.save({"step": 1, "weight": torch.ones(2)}, file)
    with restricted():
        assert engine.load(str(file))["step"] == 1


def test_what_a_file_asks_for_is_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "good.pt")
    assert why_unsafe(tmp_path / "good.pt") == ""
    torch.save({"weight": torch.ones(3), "more": Touch(tmp_path / "ran")}, tmp_path / "bad.pt")
    assert why_unsafe(tmp_path / "bad.pt") == "it asks for tests.foreign.touch"
    torch.save({"stage": Member(torch.Tensor, "numpy")}, tmp_path / "method.pt")
    assert "no plain value" in why_unsafe(tmp_path / "method.pt")
    assert not (tmp_path / "ran").exists()


class Member:
    """As Python 3.11.2 pickles a member of an enumeration: getattr(class, name)."""

    def __init__(self, kind: type, name: str) -> None:
        self.kind = kind
        self.name = name

    def __reduce__(self):
        return (getattr, (self.kind, self.name))


def test_members_of_deepspeeds_enumeration_are_read_and_nothing_else_by_getattr(
    tmp_path: Path,
) -> None:
    from deepspeed.runtime.zero.config import ZeroStageEnum

    torch.save({"stage": Member(ZeroStageEnum, "weights")}, tmp_path / "member.pt")
    assert safe_load(tmp_path / "member.pt") == {"stage": ZeroStageEnum.weights}
    torch.save({"stage": Member(ZeroStageEnum, "__subclasses__")}, tmp_path / "method.pt")
    torch.save({"stage": Member(torch.Tensor, "numpy")}, tmp_path / "other.pt")
    for name in ("method.pt", "other.pt"):
        with pytest.raises((KeyError, ValueError, UnpicklingError)):
            safe_load(tmp_path / name)
