"""A small grid of real runs."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.integration.conftest import Workplace
from tests.integration.program import recipe, write_recipe

STEPS = 40


def grid(workplace: Workplace, folder: Path) -> Path:
    """Two rows that train and one whose text is not there."""
    values = recipe(workplace.values["data"]["files"][0], workplace.folder / "prepared")
    values |= {
        "eval": {"every": STEPS, "tokens": 512},
        "checkpoint": {"every": 0},
        "deepspeed": {"config": "ds_configs/zero0.json"},
    }
    values["run"] |= {"steps": STEPS}
    description = {
        "title": "Tiny",
        "recipe": str(write_recipe(folder / "tiny.yaml", values)),
        "seeds": [3],
        "columns": {"tiny": {}},
        "rows": {
            "Uniform": {"decay.method": "uniform"},
            "AlphaDecay": {"decay.interval": 10},
            "Elsewhere": {"data.files": str(folder / "nothing-*.txt")},
        },
    }
    (folder / "toys.yaml").write_text(yaml.safe_dump(description, sort_keys=False))
    return folder / "toys.yaml"
