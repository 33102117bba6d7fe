"""What a resume with other steps, schedule or kernels says it changes."""

from __future__ import annotations

import pytest

from train.config.command_line import dump_config, load_config
from train.loop.resume_changes import resume_changes
from train.loop.schedules import learning_rate

BEFORE = ("--run.steps=100", "--optim.warmup_steps=10", "--optim.lr=0.01")


def changes(tmp_path, *arguments, step=50):
    (tmp_path / "config.yaml").write_text(dump_config(load_config(list(BEFORE))))
    given = {argument.partition("=")[0]: argument for argument in (*BEFORE, *arguments)}
    return resume_changes(load_config(list(given.values())), tmp_path, step)


def test_the_same_settings_change_nothing(tmp_path):
    assert changes(tmp_path, "--log.every=3", "--run.micro_batch=2") == ""


def test_more_steps_are_another_schedule(tmp_path):
    before = load_config(list(BEFORE)).optim
    was = learning_rate(before, 51, 100)
    now = learning_rate(before, 51, 200)
    assert changes(tmp_path, "--run.steps=200") == (
        "run.steps was 100, is 200 (the learning rate of step 51 was to be "
        f"{was:.3g} and is {now:.3g})"
    )
    assert was < now


def test_steps_after_the_last_had_no_rate(tmp_path):
    said = changes(tmp_path, "--run.steps=200", step=100)
    assert "the learning rate of step 101 was to be none and is " in said


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--optim.schedule=linear", "optim.schedule was cosine, is linear (the learning rate"),
        ("--optim.lr=0.02", "optim.lr was 0.01, is 0.02 (the learning rate of step 51 was to be"),
        ("--optim.warmup_steps=20", "optim.warmup_steps was 10, is 20 (the learning rate"),
        ("--optim.min_lr_ratio=0.5", "optim.min_lr_ratio was 0.1, is 0.5 (the learning rate"),
        ("--optim.grad_clip=0.5", "optim.grad_clip was "),
        ("--optim.fused=false", "optim.fused was True, is False (the same updates, rounded"),
    ],
)
def test_each_setting_is_named(tmp_path, argument, said):
    assert changes(tmp_path, argument).startswith(said)


def test_what_is_done_to_images_is_told_and_where_they_lie_is_not(tmp_path):
    images = ("--task=image_classification", "--model.architecture=vit", "--images.source=drawn")
    (tmp_path / "config.yaml").write_text(dump_config(load_config([*BEFORE, *images])))
    now = load_config([*BEFORE, *images, "--images.mixup=0.3", "--images.workers=7"])
    assert resume_changes(now, tmp_path, 50) == "images.mixup was 0.8, is 0.3"


def test_all_are_told_in_one_line(tmp_path):
    said = changes(tmp_path, "--run.steps=200", "--optim.fused=false", "--optim.schedule=linear")
    assert said.count(" was to be ") == 1
    assert [part.split()[0] for part in said.split("; ")] == [
        "run.steps",
        "optim.schedule",
        "optim.fused",
    ]


def test_a_run_without_its_settings_says_nothing(tmp_path):
    assert resume_changes(load_config(list(BEFORE)), tmp_path, 5) == ""
