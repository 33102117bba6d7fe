"""Image classification in the program, under each engine: from a folder of images to an exported
model; gone on bit for bit, and elsewhere.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from alphadecay import pl_alpha_hill
from tests.conftest import ROOT
from tests.integration.conftest import Workplace
from tests.integration.program import PROGRAM, figures, metrics, run, write_recipe
from tests.unit.train.data.images.pictures import encoded
from train.config.command_line import load_config
from train.data.images.drawn import CLASSES, draw
from train.data.images.pillow import from_array
from train.data.images.sources import open_images
from train.data.images.transforms import Transforms
from train.export.trained import find_trained
from train.models.build import build_model

ENGINES = {
    "zero1": ("--deepspeed.config", "ds_configs/zero1.json"),
    "zero3": ("--deepspeed.config", "ds_configs/zero3.json"),
    "fsdp2": ("--engine.kind", "fsdp2"),
}
# float32: gradients are summed in another order.
TOLERANCE = 3e-6
FIGURES = [f"val{ema}_{name}" for ema in ("", "_ema") for name in ("loss", "top1", "top5")]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A folder of images with one that cannot be read, and a ViT of two layers that ends in
    seconds.
    """
    folder = tmp_path_factory.mktemp("images")
    for part, numbers in (("train", range(60)), ("val", range(60, 81))):
        for number in numbers:
            path = folder / part / CLASSES[number % 3] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(from_array(draw(10 * (number // 3) + number % 3, 20))))
    (folder / "train" / CLASSES[0] / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    values = {
        "name": "images",
        "task": "image_classification",
        "model": {
            "architecture": "vit",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_layers": 2,
            "num_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "num_labels": 3,
        },
        "images": {
            "train": str(folder / "train"),
            "validation": str(folder / "val"),
            "max_bad_fraction": 0.1,
            "workers": 2,
        },
        "data": {"directory": str(folder / "prepared")},
        "optim": {"name": "adam", "lr": 3e-3, "weight_decay": 0.1, "warmup_steps": 1, "ema": 0.9},
        "decay": {"interval": 3},
        "run": {"steps": 6, "global_batch": 8, "micro_batch": 2, "precision": "float32"},
        "eval": {"every": 3, "micro_batch": 4},
        "checkpoint": {"every": 3, "keep": 2},
        "log": {"every": 1, "progress": "lines"},
    }
    return Workplace(folder, write_recipe(folder / "images.yaml", values), values)


@pytest.fixture(scope="module")
def runs(images: Workplace) -> dict[str, Path]:
    """A run of each engine on two ranks."""
    done = {}
    for engine, arguments in ENGINES.items():
        outcome = images.run(2, engine, *arguments)
        assert outcome.code == 0, outcome.output
        if not done:
            assert "1 of 61 images cannot be read, the first" in outcome.output
        done[engine] = images.folder / engine
    return done


def test_engines_agree(runs):
    zero1, *others = runs.values()
    for other in others:
        for kind, keys in (("train", ["loss", "grad_norm"]), ("validation", FIGURES)):
            for ours, theirs in zip(metrics(other, kind), metrics(zero1, kind), strict=True):
                for key in keys:
                    assert ours[key] == pytest.approx(theirs[key], rel=0, abs=TOLERANCE), key


def test_the_average_is_another_model(runs):
    first, *_, last = metrics(runs["zero1"], "validation")
    assert first["val_loss"] == first["val_ema_loss"]
    assert abs(last["val_loss"] - last["val_ema_loss"]) > 100 * TOLERANCE
    summary = json.loads((runs["zero1"] / "summary.json").read_text())
    assert summary["val_top1"] == last["val_top1"]
    assert summary["figure"]["name"] == "val_top1"


def test_alphas_are_those_of_the_unsharded_model(runs, images):
    config = load_config(["--config", str(images.recipe)])
    whole = build_model(config.model, config.positions, config.run.seed_of_init)
    weights = dict(whole.named_parameters())
    for folder in runs.values():
        alphas = metrics(folder, "refresh")[0]["alphas"]
        assert len(alphas) == 12  # six matrices in each of two layers
        for name, alpha in alphas.items():
            assert alpha == pytest.approx(pl_alpha_hill(weights[name].detach()), rel=1e-5), name


def cut(whole: Path, images: Workplace, name: str) -> Path:
    """A run that was ended after its first checkpoint."""
    folder = images.folder / name
    step = "checkpoints/step-00000003"
    shutil.copytree(whole / step, folder / step)
    shutil.copy(whole / "metrics.jsonl", folder)
    return folder


@pytest.mark.parametrize("engine", ENGINES)
def test_it_goes_on_bit_for_bit_and_on_one_rank(runs, engine, images):
    whole = runs[engine]
    for ranks in (2, 1):
        folder = cut(whole, images, f"{engine}-on-{ranks}")
        outcome = images.run(ranks, folder.name, *ENGINES[engine])
        assert outcome.code == 0 and "step 3 of 6" in outcome.output, outcome.output
        ours, theirs = (
            [[record[key] for key in FIGURES] for record in metrics(f, "validation")]
            for f in (folder, whole)
        )
        if ranks == 2:
            assert figures(folder) == figures(whole) and ours == theirs
        else:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
            losses = [[record["loss"] for record in metrics(f, "train")] for f in (folder, whole)]
            np.testing.assert_allclose(*losses, rtol=0, atol=TOLERANCE)


def test_the_average_goes_on_from_stage_1_to_stage_3(runs, images):
    folder = cut(runs["zero1"], images, "zero1-to-zero3")
    outcome = images.run(1, folder.name, *ENGINES["zero3"])
    assert outcome.code == 0, outcome.output
    ours, theirs = (metrics(f, "validation")[-1] for f in (folder, runs["zero1"]))
    for key in FIGURES:
        assert ours[key] == pytest.approx(theirs[key], rel=0, abs=TOLERANCE), key


@pytest.mark.parametrize("engine", ENGINES)
def test_the_exported_folder_sees_and_answers_as_the_run(runs, engine, images, tmp_path):
    out = tmp_path / "out"
    outcome = run(1, ROOT, "-m", "train", "export", str(runs[engine]), "--out", str(out))
    assert outcome.code == 0, outcome.output
    model = AutoModelForImageClassification.from_pretrained(out).eval()
    assert [model.config.id2label[number] for number in range(3)] == sorted(CLASSES[:3])
    card = (out / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card and "An image classifier of" in card
    top1 = metrics(runs[engine], "validation")[-1]["val_top1"]
    assert f"| top-1 accuracy (%) | {top1:,.2f} |" in card
    config = load_config(["--config", str(images.recipe)])
    _, validation = open_images(config.images, config.data, config.model)
    seen = [validation.read(index) for index in range(4)]
    pixels = np.stack([Transforms(config.images, 16).for_validation(image) for image in seen])
    theirs = AutoImageProcessor.from_pretrained(out)(images=seen, return_tensors="pt")
    np.testing.assert_allclose(theirs["pixel_values"], pixels, rtol=0, atol=1e-5)
    trained = find_trained(runs[engine], "", print).load(torch.float32)
    with torch.no_grad():
        assert torch.equal(
            model(torch.from_numpy(pixels)).logits, trained(torch.from_numpy(pixels)).logits
        )


def test_no_text_comes_from_a_classifier(runs):
    done = run(1, ROOT, "-m", "train", "generate", str(runs["zero1"]), "--prompt", "a")
    assert done.code == 2 and "Traceback" not in done.output
    assert "vit" in done.output and "writes no text" in done.output


def test_a_dry_run_knows_the_images(runs, images):
    outcome = images.run(1, "zero1", "--dry-run", "--world-size", "2")
    assert outcome.code == 0 and "60 of 3 classes to train on: 0.80 epochs" in outcome.output
    assert "21 to validate on; 1 cannot be read" in outcome.output
    assert "goes on from" in outcome.output
    outcome = images.run(1, "fresh", "--dry-run", "--images.train", "nowhere")
    assert outcome.code == 2 and "images.train is 'nowhere', which is no folder" in outcome.output


def test_auto_takes_a_micro_batch(runs, images):
    arguments = ("--run.micro_batch", "auto", "--run.steps", "1", "--deepspeed.config", "auto")
    outcome = images.run(1, "auto", *arguments)
    assert outcome.code == 0 and "auto takes" in outcome.output, outcome.output


def test_images_are_prepared_by_hand(images, tmp_path):
    command = ("-m", "train", "prepare", "--config", str(images.recipe))
    done = run(1, ROOT, *command, "--data.directory", str(tmp_path))
    assert done.code == 0, done.output
    assert sorted(done.output.split()[-2:]) == sorted(map(str, tmp_path.iterdir()))


@pytest.mark.slow
def test_the_smoke_recipe_learns(images):
    outcome = run(1, images.folder, PROGRAM, "--config", "vit_tiny_smoke", "--output_dir", "smoke")
    assert outcome.code == 0, outcome.output
    last = metrics(images.folder / "smoke", "validation")[-1]
    assert min(last["val_top1"], last["val_ema_top1"]) > 50  # chance has 10


def test_other_classes_are_refused_before_the_training(images):
    outcome = images.run(1, "other", "--model.num_labels", "5")
    assert outcome.code == 2 and "has 3 classes, and model.num_labels is 5" in outcome.output
