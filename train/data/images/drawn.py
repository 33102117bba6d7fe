"""Images that the program draws itself: ten classes of shapes and textures, for a run without data.

Class, place, size, colours, brightness and noise are drawn for each image; neither colour nor place
tells the class.

Shapes: S side of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from train.data.images.draws import Purpose, generator
from train.data.images.image_set import identity_of
from train.data.images.pillow import Image, UInt8s, from_array

Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float64]
# From coordinates whose unit is the size of the shape, and from the centre, to where it is.
_Form = Callable[[Plane, Plane], Mask]
_VERSION = "1"  # of the drawings; another one has other images
_NOISE = 12.0  # standard deviation, of values up to 255
_SIZES = (0.3, 0.45)  # of a shape, as a share of the side
_LINE = 0.35  # half the width of a bar, in units of the shape
_CONTRAST = 60.0  # between ground and shape in one colour, at least

_FORMS: Mapping[str, _Form] = MappingProxyType(
    {
        "bars": lambda x, y: np.sin(5 * y) > 0,
        "checks": lambda x, y: np.sin(5 * x) * np.sin(5 * y) > 0,
        "cross": lambda x, y: np.minimum(abs(x), abs(y)) < _LINE,
        "diagonals": lambda x, y: np.sin(4 * (x + y)) > 0,
        "disc": lambda x, y: x**2 + y**2 < 1,
        "dots": lambda x, y: np.sin(5 * x) ** 2 + np.sin(5 * y) ** 2 < 0.7,
        "frame": lambda x, y: abs(np.maximum(abs(x), abs(y)) - 0.8) < 0.22,
        "ring": lambda x, y: abs(np.sqrt(x**2 + y**2) - 0.8) < 0.22,
        "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.9,
        "triangle": lambda x, y: (abs(x) < (y + 1) / 2) & (y < 1),
    }
)
CLASSES = tuple(_FORMS)


class DrawnImages:
    """A number of drawn images; the classes take turns.

    Args:
        count: images.
        side: S.
        first: number of the first one, so that two sets share none.
    """

    classes = CLASSES
    bad = 0

    def __init__(self, count: int, side: int, first: int = 0) -> None:
        numbers = np.arange(first, first + count, dtype=np.int64)
        self.labels = numbers % len(CLASSES)
        self.identity = identity_of(["drawn", _VERSION, str(count), str(side), str(first)])
        self._pixels = [draw(int(number), side) for number in numbers]

    def read(self, index: int) -> Image:
        """Return an image."""
        return from_array(self._pixels[index])


def draw(number: int, side: int) -> UInt8s:
    """Draw an image, uint8 [S, S, 3]; the same for the same number."""
    rng = generator(0, number, Purpose.DRAWING)
    size = side * rng.uniform(*_SIZES)
    centre = rng.uniform(size, side - size, size=2)
    y, x = (np.mgrid[:side, :side] + 0.5 - centre[:, None, None]) / size
    form = _FORMS[CLASSES[number % len(CLASSES)]]
    mask = form(x, y) & (np.maximum(abs(x), abs(y)) < 1.1)
    ground, colour = _two_colours(rng)
    pixels = np.where(mask[:, :, None], colour, ground)
    noisy = pixels + rng.normal(0, _NOISE, size=pixels.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _two_colours(rng: np.random.Generator) -> tuple[Plane, Plane]:
    while True:
        ground, colour = rng.uniform(0, 255, size=(2, 3))
        if abs(ground - colour).max() > _CONTRAST:
            return ground, colour
