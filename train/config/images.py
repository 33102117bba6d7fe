"""Settings that say where images come from and how they are changed before they are learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from train.config.ranges import at_least, within


@dataclass(frozen=True)
class ImagesConfig:
    """Where images come from and what is done to them, of task image_classification.

    Their side is model.image_size, and their classes are counted by model.num_labels. What is drawn
    for a row is drawn from the seed of the data and the row's place in the run, so that any number
    of ranks sees the same.

    Args:
        source: folder (a folder of images for each class), saved (an image set of `datasets`) or
            drawn (shapes and textures of ten classes that the program draws itself).
        train: of source folder, a folder of CLASS/NAME.JPEG; of source saved, a folder that
            save_to_disk wrote, or one of parquet files, such as the copy of a repository.
        validation: the same for validation, with the same classes; of source saved it may be the
            same folder, where sets or files are named train and validation.
        image_column: of source saved: the column of the images.
        label_column: of source saved: the column of the classes, numbered from 0.
        drawn_train: of source drawn: images to train on.
        drawn_validation: of source drawn: images to validate on.
        crop_scale: least share of an image's area that a random crop keeps; 1 crops none, and
            takes the centre as validation does.
        flip: probability of a horizontal flip.
        rand_augment: operations of RandAugment on each image (arXiv 1909.13719); 0 does none.
        magnitude: of these operations, of 10 at most; each is drawn around it.
        magnitude_sd: standard deviation of that draw.
        erasing: probability that noise takes the place of a rectangle (arXiv 1708.04896).
        mixup: alpha of the share in which two images are blended (arXiv 1710.09412); 0 blends none.
        cutmix: alpha of the share that one image takes of another (arXiv 1905.04899); 0 cuts none.
            With both, each pair of rows has one of them, by chance.
        label_smoothing: share of a label that is spread over all classes.
        centre_crop: side of the central square that validation sees, as a share of the shorter
            side.
        max_bad_fraction: refuse a set when more than this share of its images cannot be read; up
            to that they are set aside and counted.
        workers: threads of a rank that read images; 0 means as many as its cores. The images are
            the same with any number.
    """

    source: Literal["folder", "saved", "drawn"] = "folder"
    train: str = ""
    validation: str = ""
    image_column: str = "image"
    label_column: str = "label"
    drawn_train: Annotated[int, at_least(1)] = 2000
    drawn_validation: Annotated[int, at_least(1)] = 500
    crop_scale: Annotated[float, within(0, 1, low_open=True)] = 0.08
    flip: Annotated[float, within(0, 1)] = 0.5
    rand_augment: Annotated[int, at_least(0)] = 2
    magnitude: Annotated[float, within(0, 10)] = 9.0
    magnitude_sd: Annotated[float, at_least(0)] = 0.5
    erasing: Annotated[float, within(0, 1)] = 0.25
    mixup: Annotated[float, at_least(0)] = 0.8
    cutmix: Annotated[float, at_least(0)] = 1.0
    label_smoothing: Annotated[float, within(0, 1, high_open=True)] = 0.1
    centre_crop: Annotated[float, within(0, 1, low_open=True)] = 0.875
    max_bad_fraction: Annotated[float, within(0, 1)] = 0.01
    workers: Annotated[int, at_least(0)] = 0
