"""DeepSpeed's universal checkpoints: a configuration that loads one, and its converter."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tests.distributed.zero3 import ROWS, ds_config


def config_of(stage: int, world_size: int, load: bool) -> dict[str, Any]:
    config = ds_config(world_size, ROWS // world_size)
    if stage != 3:
        config["zero_optimization"] = {"stage": stage}
    return config | ({"checkpoint": {"load_universal": True}} if load else {})


def convert(folder: Path) -> None:
    from deepspeed.checkpoint.ds_to_universal import main

    main(
        argparse.Namespace(
            input_folder=str(folder / "t"),
            output_folder=str(folder / "universal"),
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
    )
