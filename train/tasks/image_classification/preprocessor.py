"""Describes to transformers what validation does to an image, and names the classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.config import TrainConfig
from train.config.run_folder import CLASSES, PREPROCESSOR
from train.data.images.transforms import MEAN, STD
from train.system.files import write_atomically

_BICUBIC = 3  # Pillow's number


def preprocessor(config: TrainConfig) -> dict[str, Any]:
    """Return the settings of transformers' processor that scales the shorter side and cuts the
    centre.
    """
    side = config.model.image_size
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": round(side / config.images.centre_crop)},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def keep(config: TrainConfig, classes: Sequence[str], folder: Path) -> None:
    """Write both files into a run's folder.

    Raises:
        OSError: they cannot be written.
    """
    described = json.dumps(preprocessor(config), indent=2)
    write_atomically(folder / PREPROCESSOR, f"{described}\n")
    write_atomically(folder / CLASSES, json.dumps(list(classes), indent=0) + "\n")
