"""Loss, top-1 and top-5 of held-out images, against a count by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.engines import PlainEngine
from train.config import ImagesConfig
from train.data.images.drawn import DrawnImages
from train.data.images.transforms import Transforms
from train.tasks.image_classification import evaluation
from train.tasks.image_classification.evaluation import evaluate, row_figures

IMAGES = DrawnImages(25, 8)
TRANSFORMS = Transforms(ImagesConfig(centre_crop=1), 8)


class Linear(torch.nn.Module):
    """Ten logits from pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(3 * 64, 10)

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(pixel_values.flatten(1)))


@pytest.mark.parametrize("rows", [1, 4, 25, 40])
def test_every_image_counts_once(rows, monkeypatch):
    monkeypatch.setattr(evaluation.dist, "all_reduce", lambda figures: None)
    world = SimpleNamespace(rank=0, size=1, device=torch.device("cpu"))
    model = Linear()
    with ThreadPoolExecutor(2) as pool:
        found = evaluate(PlainEngine(model), IMAGES, TRANSFORMS, rows, world, pool)
    pixels = np.stack([TRANSFORMS.for_validation(IMAGES.read(index)) for index in range(25)])
    logits = model(torch.from_numpy(pixels)).logits.detach().double()
    order = logits.argsort(dim=1, descending=True)
    labels = torch.from_numpy(IMAGES.labels)
    places = (order == labels[:, None]).nonzero()[:, 1]
    loss = -logits.log_softmax(1)[torch.arange(25), labels].mean()
    expected = (float(loss), 100 * float((places == 0).sum()) / 25, 4 * float((places < 5).sum()))
    assert found == pytest.approx(expected, rel=1e-6)


def test_fewer_classes_than_guesses():
    figures = row_figures(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([1, 1]))
    assert figures[:, 1:].tolist() == [[1, 1], [0, 1]]
