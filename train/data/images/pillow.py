"""What Pillow does: reads images, cuts, scales and turns them, and RandAugment's operations.

Pillow's arithmetic is that of the published recipes, in whole numbers from 0 to 255, and other
threads run while it works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import ImageEnhance, ImageOps
from PIL.Image import Image, Resampling, Transform, Transpose, fromarray
from PIL.Image import open as open_image

Box = tuple[int, int, int, int]  # left, top, right, bottom
UInt8s = npt.NDArray[np.uint8]

# What comes in from outside a turned or shifted image: ImageNet's mean.
FILL = (124, 116, 104)
_SOLARIZED = 128  # values from here on are turned round, those below are added to


def read_image(content: bytes) -> Image:
    """Decode a file in three colours.

    Raises:
        ValueError: it is no image, or not a whole one.
    """
    try:
        with open_image(BytesIO(content)) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # broken files raise anything, struct.error and SyntaxError too
        raise ValueError(f"{error}".partition("\n")[0] or type(error).__name__) from error


def from_array(pixels: UInt8s) -> Image:
    """Return an image of pixels [height, width, 3]."""
    return fromarray(pixels)


def to_array(image: Image) -> UInt8s:
    """Return the pixels of an image, [3, height, width]."""
    return np.array(image, dtype=np.uint8).transpose(2, 0, 1)


def cut_and_scale(image: Image, box: Box, side: int) -> Image:
    """Return a square of what lies in a box."""
    return image.resize((side, side), Resampling.BICUBIC, box=box)


def scale_and_cut_centre(image: Image, side: int, share: float) -> Image:
    """Return the central square.

    Args:
        side: of the square.
        share: of the shorter side that the square keeps.
    """
    shorter = round(side / share)
    least = min(image.size)
    width, height = (shorter * length // least for length in image.size)
    scaled = image.resize((width, height), Resampling.BICUBIC)
    left = (width - side) // 2
    top = (height - side) // 2
    return scaled.crop((left, top, left + side, top + side))


def mirror(image: Image) -> Image:
    """Return the image with left and right exchanged."""
    return image.transpose(Transpose.FLIP_LEFT_RIGHT)


def _affine(image: Image, *coefficients: float) -> Image:
    """Take each pixel (x, y) from (a·x + b·y + c, d·x + e·y + f)."""
    return image.transform(
        image.size, Transform.AFFINE, coefficients, Resampling.BILINEAR, fillcolor=FILL
    )


def _shear_x(image: Image, strength: float) -> Image:
    return _affine(image, 1, 0.3 * strength, 0, 0, 1, 0)


def _shear_y(image: Image, strength: float) -> Image:
    return _affine(image, 1, 0, 0, 0.3 * strength, 1, 0)


def _translate_x(image: Image, strength: float) -> Image:
    return _affine(image, 1, 0, 0.45 * strength * image.width, 0, 1, 0)


def _translate_y(image: Image, strength: float) -> Image:
    return _affine(image, 1, 0, 0, 0, 1, 0.45 * strength * image.height)


def _rotate(image: Image, strength: float) -> Image:
    return image.rotate(30 * strength, Resampling.BILINEAR, fillcolor=FILL)


def _autocontrast(image: Image, strength: float) -> Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image, strength: float) -> Image:
    return ImageOps.equalize(image)


def _invert(image: Image, strength: float) -> Image:
    return ImageOps.invert(image)


def _posterize(image: Image, strength: float) -> Image:
    bits = 4 - int(4 * abs(strength))
    return ImageOps.posterize(image, bits) if bits else fromarray(np.zeros_like(np.array(image)))


def _solarize(image: Image, strength: float) -> Image:
    return ImageOps.solarize(image, 256 - int(256 * abs(strength)))


def _solarize_add(image: Image, strength: float) -> Image:
    added = min(128, int(110 * abs(strength)))
    table = [min(255, value + added) if value < _SOLARIZED else value for value in range(256)]
    return image.point(table * 3)


def _colour(image: Image, strength: float) -> Image:
    return ImageEnhance.Color(image).enhance(_factor(strength))


def _contrast(image: Image, strength: float) -> Image:
    return ImageEnhance.Contrast(image).enhance(_factor(strength))


def _brightness(image: Image, strength: float) -> Image:
    return ImageEnhance.Brightness(image).enhance(_factor(strength))


def _sharpness(image: Image, strength: float) -> Image:
    return ImageEnhance.Sharpness(image).enhance(_factor(strength))


def _factor(strength: float) -> float:
    return max(0.1, 1 + 0.9 * strength)


# RandAugment's, from an image and a strength in [-1, 1]: its sign says which way to turn, shift or
# change, and does not matter to the others. Ranges are those of the published recipes ("inc1").
OPERATIONS: Mapping[str, Callable[[Image, float], Image]] = MappingProxyType(
    {
        "autocontrast": _autocontrast,
        "equalize": _equalize,
        "invert": _invert,
        "rotate": _rotate,
        "posterize": _posterize,
        "solarize": _solarize,
        "solarize_add": _solarize_add,
        "colour": _colour,
        "contrast": _contrast,
        "brightness": _brightness,
        "sharpness": _sharpness,
        "shear_x": _shear_x,
        "shear_y": _shear_y,
        "translate_x": _translate_x,
        "translate_y": _translate_y,
    }
)
