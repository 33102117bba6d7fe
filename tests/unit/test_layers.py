"""Imports point down only: between the parts of the library, and the rooms of the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit import layering

# From the bottom up.
LIBRARY = (
    ("alphadecay.config",),
    ("alphadecay.spectral", "alphadecay.policy", "alphadecay.owners"),
    ("alphadecay.modules", "alphadecay.state", "alphadecay.calibration"),
    ("alphadecay.description",),
    ("alphadecay.sharding",),
    ("alphadecay.optim",),
    ("alphadecay.attach", "alphadecay.learning_rates"),
    ("alphadecay.gram_solvers",),
    ("alphadecay.spread", "alphadecay.stacks"),
    ("alphadecay.refresh",),
    ("alphadecay.baselines", "alphadecay.controller"),
    ("alphadecay.integrations",),
    ("alphadecay.inspect",),
    ("alphadecay",),
    ("alphadecay.cli", "alphadecay.examples"),
)
ROOMS = (
    "errors",
    "system",
    "config",
    "cluster",
    "models",
    "data",
    "engines",
    "telemetry",
    "checkpoint",
    "tasks",
    "loop",
    "export",
    "planning",
    "reporting",
    "experiments",
)
STARTS = ("commands",)
PROGRAM = (
    *((f"train.{room}",) for room in (*ROOMS, *STARTS)),
    ("train",),
    ("train.pretrain", "train.__main__", "train.export.__main__"),
)
LOOSE_FILES = {"errors", "commands", "pretrain", "__init__", "__main__"}
# The word that a file's name must have for it to import the package.
LIBRARY_OPTIONAL = {
    name: name
    for name in (
        "deepspeed",
        "transformers",
        "accelerate",
        "bitsandbytes",
        "lightning",
        "torchtitan",
        "datasets",
        "sentencepiece",
        "wandb",
        "tensorboard",
        "matplotlib",
        "jsonargparse",
        "pandas",
        "safetensors",
    )
}
# What is installed with the library for its command alone, and the one part that imports it.
FOR_THE_COMMAND = frozenset({"rich", "plotly", "jinja2", "markupsafe", "yaml"})
COMMAND = "alphadecay.inspect"
PROGRAM_OPTIONAL = {
    "PIL": "pillow",
    "wandb": "wandb",
    "tensorboard": "tensorboard",
    "liger_kernel": "liger",
    "lm_eval": "lm_eval",
}
# What an example is about.
EXAMPLES = {
    "alphadecay.examples.zero imports deepspeed",
    "alphadecay.examples.trainer imports transformers",
    "alphadecay.examples.trainer_muon imports transformers",
    "alphadecay.examples.fabric imports lightning",
}
TABLES = {"alphadecay": LIBRARY, "train": PROGRAM}


@pytest.mark.parametrize("package", TABLES)
def test_imports_point_down(root: Path, package: str) -> None:
    assert layering.violations(root, package, TABLES[package]) == []
    assert layering.absent(root, TABLES[package]) == []


def test_the_library_knows_nothing_of_the_program(root: Path) -> None:
    for name, path in layering.modules(root, "alphadecay").items():
        targets = set(layering.imports(path, name))
        assert not {target for target in targets if target.split(".")[0] == "train"}, name


@pytest.mark.parametrize("package", TABLES)
def test_no_folders_import_each_other_in_a_circle(root: Path, package: str) -> None:
    assert layering.cycle(layering.folder_arrows(root, package)) == []


def test_few_files_lie_loose_in_the_program(root: Path) -> None:
    assert set(layering.loose_files(root, "train")) == LOOSE_FILES


def maths(root: Path) -> list[Path]:
    """Return the files of the row of tensors and numbers."""
    (row,) = [row for row in LIBRARY if "alphadecay.spectral" in row]
    names = layering.modules(root, "alphadecay")
    return [path for name, path in names.items() if layering.part_of(name, row)]


def test_the_maths_knows_no_collectives(root: Path) -> None:
    files = maths(root)
    assert len(files) > 5
    for path in files:
        targets = set(layering.imports(path, "alphadecay.spectral.any"))
        assert not {
            target
            for target in targets
            if target == "torch.nn" or target.startswith(("torch.distributed", "torch.nn.modules"))
        }, path


def test_optional_packages_are_imported_only_under_their_name(root: Path) -> None:
    found = set(layering.misplaced(root, "alphadecay", LIBRARY_OPTIONAL))
    assert found == EXAMPLES
    assert layering.misplaced(root, "train", PROGRAM_OPTIONAL) == []


def test_only_the_command_needs_more_than_torch_and_numpy(root: Path) -> None:
    users = set()
    for name, path in layering.modules(root, "alphadecay").items():
        needed = {target.split(".")[0] for target in layering.imports(path, name)}
        if needed & FOR_THE_COMMAND:
            users.add(layering.part_of(name, [COMMAND, "alphadecay"]))
    assert users <= {COMMAND}
    # What everyone imports, imports none of it.
    code = (
        f"import sys, alphadecay.cli; sys.exit(bool({set(FOR_THE_COMMAND)!r} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0


# -- the checks see what they are for


TOY = (("toy.low",), ("toy.middle",), ("toy.high",), ("toy",))


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"middle.py": "from toy.low import number"}, []),
        (
            {"low/__init__.py": "", "low/a.py": "import toy.high"},
            ["toy.low.a imports toy.high, which is not below it"],
        ),
        (
            {"middle.py": "from toy import high", "high/__init__.py": ""},
            ["toy.middle imports toy.high, which is not below it"],
        ),
        (
            {"low/__init__.py": "", "low/a.py": "from ..middle import x", "middle.py": ""},
            ["toy.low.a imports toy.middle, which is not below it"],
        ),
        (
            {
                "low.py": "from typing import TYPE_CHECKING\n"
                "if TYPE_CHECKING:\n    from toy.high.deep import Thing"
            },
            ["toy.low imports toy.high.deep, which is not below it"],
        ),
        (
            {"low.py": "def f():\n    from toy.middle import late"},
            ["toy.low imports toy.middle, which is not below it"],
        ),
        ({"attic/old.py": ""}, ["toy.attic.old is in no row of the table"]),
    ],
)
def test_an_import_that_points_up_is_seen(
    tmp_path: Path, files: dict[str, str], said: list[str]
) -> None:
    assert layering.violations(tree(tmp_path, files), "toy", TOY) == said


def test_a_circle_of_folders_is_seen(tmp_path: Path) -> None:
    files = {
        "low/__init__.py": "",
        "low/a.py": "",
        "low/b.py": "def f():\n    import toy.middle.c",
        "middle/__init__.py": "",
        "middle/c.py": "from toy.high import d",
        "high/__init__.py": "",
        "high/d.py": "from toy.low import a",
    }
    arrows = layering.folder_arrows(tree(tmp_path, files), "toy")
    assert layering.cycle(arrows) == ["toy.high", "toy.low", "toy.middle"]
    (tmp_path / "toy" / "low" / "b.py").write_text("")
    assert layering.cycle(layering.folder_arrows(tmp_path, "toy")) == []


def test_a_part_that_is_gone_and_an_optional_import_elsewhere_are_seen(tmp_path: Path) -> None:
    files = {"low/__init__.py": "", "wandb_sink.py": "import wandb", "low/x.py": "import wandb.sdk"}
    root = tree(tmp_path, files)
    assert layering.absent(root, TOY) == ["toy.middle", "toy.high"]
    assert layering.misplaced(root, "toy", {"wandb": "wandb"}) == ["toy.low.x imports wandb"]
