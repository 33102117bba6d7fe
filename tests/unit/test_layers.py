"""Imports point down only: spectral, policy, owners < modules < sharding < optim < refresh <
controller < integrations < train.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS: dict[str, float] = {
    "alphadecay.config": -1,
    "alphadecay.spectral": 0,
    "alphadecay.policy": 0,
    "alphadecay.owners": 0,
    "alphadecay.modules": 1,
    "alphadecay.description": 1.5,
    "alphadecay.state": 1,
    "alphadecay.sharding": 2,
    "alphadecay.optim": 3,
    "alphadecay.attach": 3.5,
    "alphadecay.spread": 1.5,
    "alphadecay.refresh": 4,
    "alphadecay.baselines": 5,
    "alphadecay.controller": 5,
    "alphadecay.integrations": 6,
    "alphadecay.cli": 6,
    "alphadecay": 6,
    "alphadecay.examples": 6.5,
    "train": 7,
}
OPTIONAL = {
    "deepspeed",
    "transformers",
    "accelerate",
    "lightning",
    "pytorch_lightning",
    "torchtitan",
    "bitsandbytes",
    "datasets",
    "sentencepiece",
    "wandb",
    "tensorboard",
    "rich",
    "matplotlib",
    "jsonargparse",
    "yaml",
}
# what a file is about, where its name does not say so
ABOUT = {
    "zero": "deepspeed",
    "trainer": "transformers",
    "trainer_muon": "transformers",
    "fabric": "lightning",
    "lightning": "pytorch_lightning",
}


def layer(module: str) -> tuple[str, float] | None:
    """(part, layer) of a dotted module name; None for what is not ours."""
    matches = [part for part in LAYERS if module == part or module.startswith(part + ".")]
    return (max(matches, key=len), LAYERS[max(matches, key=len)]) if matches else None


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def sources(root: Path) -> list[tuple[Path, str]]:
    files = [*root.glob("alphadecay/**/*.py"), *root.glob("train/**/*.py")]
    return [
        (f, ".".join(f.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
        for f in files
    ]


def violations(root: Path) -> list[str]:
    found = []
    for path, name in sources(root):
        here = layer(name)
        assert here, f"{name} belongs to no layer; add it to LAYERS"
        for target in imports(path):
            there = layer(target)
            if there and there[0] != here[0] and there[1] >= here[1]:
                found.append(f"{name} (L{here[1]}) imports {target} (L{there[1]})")
    return found


def test_imports_point_down(root: Path) -> None:
    assert violations(root) == []


@pytest.mark.parametrize(
    ("file", "line", "seen"),
    [
        (
            "modules.py",
            "from alphadecay.sharding import zero",
            "modules (L1) imports {}sharding (L2)",
        ),
        (
            "sharding/zero.py",
            "import alphadecay.optim.hooks",
            "sharding.zero (L2) imports {}optim.hooks (L3)",
        ),
        (
            "optim/hooks.py",
            "from alphadecay.attach import Attachment",
            "optim.hooks (L3) imports {}attach (L3.5)",
        ),
        (
            "policy/apply.py",
            "from alphadecay.spectral import FIELDS",
            "policy.apply (L0) imports {}spectral (L0)",
        ),
    ],
)
def test_the_check_sees_a_violation(tmp_path: Path, file: str, line: str, seen: str) -> None:
    path = tmp_path / "alphadecay" / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert violations(tmp_path) == ["alphadecay." + seen.format("alphadecay.")]


@pytest.mark.parametrize("part", ["spectral", "policy", "owners.py"])
def test_the_maths_knows_no_collectives(root: Path, part: str) -> None:
    folder = root / "alphadecay" / part
    for path in [folder] if folder.is_file() else folder.rglob("*.py"):
        assert not {
            t
            for t in imports(path)
            if t == "torch.nn" or t.startswith(("torch.distributed", "torch.nn.modules"))
        }, path


def test_the_library_imports_optional_packages_only_under_their_name(root: Path) -> None:
    for path, _ in sources(root):
        if "alphadecay" in path.relative_to(root).parts[0]:
            taken = {t.split(".")[0] for t in imports(path)} & OPTIONAL
            assert all(
                package in path.stem or package == ABOUT.get(path.stem) for package in taken
            ), (path, taken)
