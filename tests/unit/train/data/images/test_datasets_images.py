"""Image sets of `datasets`, saved and as parquet: the images of a folder, and what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from tests.unit.train.data.images.pictures import encoded, picture
from train.config import DataConfig, ImagesConfig, ModelConfig
from train.data.images.datasets_images import open_saved, prepare_saved
from train.data.images.sources import are_verified, open_images, prepare_images
from train.errors import UserError

MODEL = ModelConfig(architecture="vit", num_labels=3)
NAMES = ["ant", "bee", "cat"]


def table(labels: list[int], first: int = 0, broken: tuple[int, ...] = (), **names: str):
    cells = [
        {"bytes": b"broken" if row in broken else encoded(picture(first + row)), "path": None}
        for row in range(len(labels))
    ]
    features = datasets.Features(
        {
            names.get("image", "image"): datasets.Image(),
            names.get("label", "label"): datasets.ClassLabel(names=NAMES)
            if max(labels) < 3
            else datasets.Value("int64"),
        }
    )
    columns = {names.get("image", "image"): cells, names.get("label", "label"): labels}
    return datasets.Dataset.from_dict(columns, features=features)


def settings(folder: Path, **more: object) -> tuple[ImagesConfig, DataConfig]:
    images = ImagesConfig(
        source="saved",
        train=str(folder / "train"),
        validation=str(folder / "val"),
        **more,  # type: ignore[arg-type]
    )
    return images, DataConfig(directory=str(folder / "prepared"))


def test_a_saved_set_and_one_of_parquet_files_hold_the_same(tmp_path):
    training = table([2, 0, 1, 1])
    training.save_to_disk(str(tmp_path / "train"))
    (tmp_path / "val").mkdir()
    training.to_parquet(str(tmp_path / "val/part-0.parquet"))
    images, data = settings(tmp_path)
    assert not are_verified(images, data)
    list(prepare_images(images, data, MODEL))
    assert are_verified(images, data)
    opened = open_images(images, data, MODEL)
    for one in opened:
        assert one.classes == tuple(NAMES) and one.labels.tolist() == [2, 0, 1, 1]
        assert np.array_equal(np.array(one.read(3)), np.array(picture(3)))
    assert opened[0].identity == opened[1].identity


def test_broken_images_are_set_aside_with_their_labels(tmp_path):
    table([2, 0, 1, 1], broken=(1,)).save_to_disk(str(tmp_path / "train"))
    images, data = settings(tmp_path, max_bad_fraction=0.3)
    prepare_saved("train", images, data, 3)
    found = open_saved("train", images, data, 3)
    assert (found.labels.tolist(), found.bad) == ([2, 1, 1], 1)
    assert np.array_equal(np.array(found.read(2)), np.array(picture(3)))


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        ([0, 1, 7], {}, r"row 2 has the label 7; classes are numbered from 0 to 2"),
        ([0, 1, 2], {"image": "img"}, r"no column 'image', but img, label; set --images.image_"),
        ([0, 1, 2], {"label": "y"}, r"no column 'label', but image, y; set --images.label_column"),
    ],
)
def test_other_labels_and_columns_are_refused(tmp_path, labels, names, said):
    table(labels, **names).save_to_disk(str(tmp_path / "train"))
    images, data = settings(tmp_path)
    with pytest.raises(UserError, match=said):
        prepare_saved("train", images, data, 3)


def test_columns_of_other_names_can_be_named(tmp_path):
    table([0, 1, 2], image="img", label="y").save_to_disk(str(tmp_path / "train"))
    images, data = settings(tmp_path, image_column="img", label_column="y")
    prepare_saved("train", images, data, 3)
    assert open_saved("train", images, data, 3).labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_both_sets_may_lie_in_one_folder(tmp_path, form):
    parts = {"train": table([0, 1, 2]), "validation": table([2, 2], first=3)}
    if form == "saved":
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    else:
        (tmp_path / "both/data").mkdir(parents=True)
        for name, part in parts.items():
            part.to_parquet(str(tmp_path / f"both/data/{name}-00000-of-00001.parquet"))
    both = str(tmp_path / "both")
    images, data = settings(tmp_path)
    images = replace(images, train=both, validation=both)
    for key, labels in (("train", [0, 1, 2]), ("validation", [2, 2])):
        prepare_saved(key, images, data, 3)
        assert open_saved(key, images, data, 3).labels.tolist() == labels


def test_one_set_is_not_taken_for_both(tmp_path):
    (tmp_path / "one").mkdir()
    table([0, 1, 2]).to_parquet(str(tmp_path / "one/train-0.parquet"))
    one = str(tmp_path / "one")
    images, data = settings(tmp_path)
    images = replace(images, train=one, validation=one)
    prepare_saved("train", images, data, 3)
    with pytest.raises(UserError, match=r"is the other set's folder too, and nothing in it is for"):
        prepare_saved("validation", images, data, 3)


def test_what_is_no_image_set_is_refused(tmp_path):
    images, data = settings(tmp_path)
    with pytest.raises(UserError, match=r"images.train is .*, which is no folder"):
        prepare_saved("train", images, data, 3)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"is no image set of `datasets`"):
        prepare_saved("train", images, data, 3)
    datasets.DatasetDict({"a": table([0]), "b": table([1])}).save_to_disk(str(tmp_path / "val"))
    with pytest.raises(UserError, match=r"holds several sets, a, b, and none of them is for val"):
        prepare_saved("validation", images, data, 3)
