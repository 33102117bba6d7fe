"""A folder of images for each class: what is found, set aside, remembered and refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.train.data.images.pictures import CLASSES, encoded, picture, settings, write_images
from train.config import ModelConfig
from train.data.images import catalogue
from train.data.images.folder import open_folder, prepare_folder
from train.data.images.sources import are_verified, images_verified, open_images, prepare_images
from train.errors import UserError

MODEL = ModelConfig(architecture="vit", num_labels=3, image_size=16, patch_size=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "train")
    write_images(tmp_path / "val", each=2)
    return tmp_path


def prepared(folder: Path, **more: object):
    images, data = settings(folder, **more)
    list(prepare_images(images, data, MODEL))
    return open_images(images, data, MODEL)


def test_images_are_found_in_the_order_of_their_names(folder):
    training, validation = prepared(folder)
    assert training.classes == validation.classes == CLASSES
    assert training.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    # ant_0.JPEG comes before ant_1.png; PNG keeps every pixel
    assert np.array_equal(np.array(training.read(5)), np.array(picture(5)))
    assert (training.bad, len(validation.labels)) == (0, 6)


def test_identity_is_of_the_content_and_of_nothing_else(folder, tmp_path):
    before = prepared(folder)[0].identity
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / "train", elsewhere / "train")
    shutil.copytree(folder / "val", elsewhere / "val")
    assert prepared(elsewhere)[0].identity == before
    (elsewhere / "train/bee/bee_1.png").write_bytes(encoded(picture(99)))
    assert prepared(elsewhere)[0].identity != before


def test_a_second_look_reads_only_what_is_new(folder, monkeypatch):
    images, data = settings(folder)
    looked = []
    look = catalogue._look

    def watched(found, name):
        looked.append(name)
        return look(found, name)

    monkeypatch.setattr(catalogue, "_look", watched)
    prepare_folder("train", images, data)
    assert len(looked) == 12
    assert not are_verified(images, data) and images_verified(images, data) == 12
    looked.clear()
    prepare_folder("train", images, data)
    assert looked == []
    (folder / "train/cat/new.png").write_bytes(encoded(picture(50)))
    (folder / "train/ant/ant_2.png").unlink()
    prepare_folder("train", images, data)
    assert looked == ["cat/new.png"]
    assert len(open_folder("train", images, data).labels) == 12


def test_an_interrupted_look_goes_on_where_it_was(folder, monkeypatch):
    images, data = settings(folder, workers=1)
    looked = []
    look = catalogue._look

    def interrupted(found, name):
        if len(looked) == 5:
            raise KeyboardInterrupt
        looked.append(name)
        return look(found, name)

    monkeypatch.setattr(catalogue, "_look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_folder("train", images, data)
    monkeypatch.setattr(catalogue, "_look", look)
    assert images_verified(images, data) == 5
    prepare_folder("train", images, data)
    assert images_verified(images, data) == 12


def test_corrupt_images_are_set_aside_and_counted(folder, capsys):
    cut = folder / "train/ant/ant_0.JPEG"
    cut.write_bytes(cut.read_bytes()[:200])
    (folder / "train/bee/bee_1.png").write_bytes(b"no image at all")
    training, _ = prepared(folder, max_bad_fraction=0.2)
    assert training.bad == 2 and training.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 4
    said = capsys.readouterr().err
    assert "2 of 12 images cannot be read, the first ant/ant_0.JPEG (" in said
    assert "set aside" in said
    with pytest.raises(UserError, match=r"2 of 12 images .* images.max_bad_fraction = 0.1 allows"):
        prepared(folder, max_bad_fraction=0.1)


def test_an_image_that_is_gone_later_is_told_with_its_path(folder):
    training, _ = prepared(folder)
    (folder / "train/ant/ant_0.JPEG").unlink()
    with pytest.raises(UserError, match=r"ant_0.JPEG was read before the training"):
        training.read(0)


def empty_class(folder: Path) -> None:
    (folder / "train/dog").mkdir()


def missing_class(folder: Path) -> None:
    shutil.rmtree(folder / "val/bee")


def extra_class(folder: Path) -> None:
    shutil.copytree(folder / "val/bee", folder / "val/dog")


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder / "val")


def no_classes(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (empty_class, r"images.train: .*dog holds no image that can be read"),
        (missing_class, r"class 'bee' is in images.train and not in images.validation"),
        (extra_class, r"class 'dog' is in images.validation and not in images.train"),
        (no_folder, r"images.validation is .*val, which is no folder"),
        (no_classes, r"images.train is .*train, which holds no folder of a class"),
    ],
)
def test_a_folder_of_another_form_is_refused(folder, spoil, said):
    spoil(folder)
    with pytest.raises(UserError, match=said):
        prepared(folder)


def test_another_number_of_classes_is_refused_with_the_right_one(folder):
    images, data = settings(folder)
    list(prepare_images(images, data, MODEL))
    with pytest.raises(UserError, match=r"has 3 classes, and model.num_labels is 5; set --model"):
        open_images(images, data, replace(MODEL, num_labels=5))


def test_no_name_is_refused(folder):
    images, data = settings(folder)
    with pytest.raises(UserError, match=r"images.train names no folder; set --images.train"):
        prepare_folder("train", replace(images, train=""), data)
