"""What DeepSpeed is given: every "auto" filled from the recipe, and no value from two places."""

import json

import pytest

from tests.conftest import ROOT
from train.config.command_line import load_config
from train.config.validate import accumulation_steps
from train.engines.ds_config import (
    gradients_accumulated_in,
    gradients_reduced_in,
    load_ds_config,
)
from train.errors import UserError

FILES = sorted((ROOT / "ds_configs").glob("*.json"))
BATCH = {"--run.global_batch": "24", "--run.micro_batch": "3", "--run.precision": "float32"}


def load(path, *arguments, world_size=2):
    given = BATCH | dict(zip(arguments[::2], arguments[1::2], strict=True))
    config = load_config(
        ["--deepspeed.config", str(path), *(word for pair in given.items() for word in pair)]
    )
    return load_ds_config(config, accumulation_steps(config, world_size), world_size)


@pytest.mark.parametrize("name", ["zero2", "zero2.json", "ds_configs/zero2.json"])
def test_a_shipped_file_by_its_name_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert load(name) == load(ROOT / "ds_configs" / "zero2.json")
    (tmp_path / "zero2").mkdir()
    assert load(name)["zero_optimization"]["stage"] == 2
    (tmp_path / "zero2.json").write_text('{"zero_optimization": {"stage": 1}}')
    stage = 1 if name == "zero2.json" else 2
    assert load(name)["zero_optimization"]["stage"] == stage


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [value]


def written(tmp_path, values):
    path = tmp_path / "mine.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def refusal(path, *arguments):
    with pytest.raises(UserError) as caught:
        load(path, *arguments)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_there_are_the_six_configurations():
    assert [path.stem for path in FILES] == [
        "zero0",
        "zero1",
        "zero2",
        "zero2_offload",
        "zero3",
        "zero3_offload",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_auto_is_filled(path):
    ds_config = load(path)
    assert "auto" not in leaves(ds_config)
    batch = [
        ds_config[f]
        for f in (
            "train_batch_size",
            "train_micro_batch_size_per_gpu",
            "gradient_accumulation_steps",
        )
    ]
    assert batch == [24, 3, 4]
    assert ds_config["gradient_clipping"] == 1.0 and ds_config["bf16"]["enabled"] is False
    assert ds_config["zero_optimization"]["stage"] == int(path.stem[4])
    assert ("offload_optimizer" in ds_config["zero_optimization"]) == path.stem.endswith("offload")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_clipping_is_what_the_recipe_says_even_if_that_is_none(path, clip):
    assert load(path, "--optim.grad_clip", str(clip))["gradient_clipping"] == clip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_bf16_keeps_float32_sums_of_gradients_where_they_are_sharded(path):
    ds_config = load(path, "--run.precision", "bf16")
    assert ds_config["bf16"]["enabled"] is True
    sharded = ds_config["zero_optimization"]["stage"] > 0
    assert ds_config.get("data_types", {}).get("grad_accum_dtype") == ("fp32" if sharded else None)


def test_the_file_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load("ds_configs/zero2.json")["zero_optimization"]["stage"] == 2


def test_a_file_without_the_keys_gets_them(tmp_path):
    ds_config = load(written(tmp_path, {"zero_optimization": {"stage": 3}}))
    assert (ds_config["train_batch_size"], ds_config["gradient_clipping"], ds_config["bf16"]) == (
        24,
        1.0,
        {"enabled": False},
    )


def test_the_same_value_in_both_places_is_no_conflict(tmp_path):
    assert (
        load(written(tmp_path, {"train_batch_size": 24, "gradient_clipping": 1}))[
            "gradient_clipping"
        ]
        == 1.0
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train_batch_size": 64}, ["train_batch_size to 64", "run.global_batch", "24"]),
        (
            {"train_micro_batch_size_per_gpu": 8},
            ["train_micro_batch_size_per_gpu to 8", "run.micro_batch", "3"],
        ),
        ({"gradient_accumulation_steps": 1}, ["gradient_accumulation_steps to 1", "2 ranks", "4"]),
        ({"gradient_clipping": 5.0}, ["gradient_clipping to 5.0", "optim.grad_clip", "1.0"]),
        ({"bf16": {"enabled": True}}, ["bf16.enabled to True", "run.precision float32"]),
        ({"fp16": {"enabled": True}}, ["fp16.enabled to True", "run.precision float32"]),
        ({"bf16": True}, ["bf16", "object"]),
        ({"optimizer": {"type": "AdamW"}}, ["'optimizer'", "optim section"]),
        ({"scheduler": {"type": "WarmupLR"}}, ["'scheduler'", "optim section"]),
        ([1], ["list", "JSON object"]),
        ('{"train_batch_size": ', ["not JSON"]),
    ],
)
def test_a_conflict_names_both_places(tmp_path, values, said):
    message = refusal(written(tmp_path, values))
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("section", "owner"),
    [
        ("activation_checkpointing", "model.activation_checkpointing"),
        ("compile", "model.compile"),
        ("torch_autocast", "run.precision"),
        ("amp", "run.precision"),
        ("data_efficiency", "data section"),
        ("wandb", "log section"),
    ],
)
def test_a_section_that_the_recipe_owns(tmp_path, section, owner):
    message = refusal(written(tmp_path, {section: {"enabled": True}}))
    assert repr(section) in message and owner in message


def test_two_values_in_one_object(tmp_path):
    path = written(tmp_path, '{"zero_optimization": {"stage": 2, "stage": 3}}')
    assert "sets 'stage' twice in one object, to 2 and to 3" in refusal(path)
    same = written(tmp_path, '{"zero_optimization": {"stage": 3, "stage": 3}}')
    assert load(same)["zero_optimization"]["stage"] == 3


def test_a_file_that_is_missing_or_a_folder(tmp_path):
    assert "no file" in refusal(tmp_path / "none.json")
    assert "cannot read" in refusal(tmp_path)


def load_many(path, ranks, precision="bf16"):
    batch = ("--run.global_batch", str(3 * ranks), "--run.precision", precision)
    return load(path, *batch, world_size=ranks)


@pytest.mark.parametrize("stage", range(4))
def test_gradients_are_summed_in_float32_from_64_ranks_on(stage):
    path = ROOT / "ds_configs" / f"zero{stage}.json"
    assert gradients_reduced_in(load_many(path, 63)) == "bf16"
    for ranks in (64, 512):
        resolved = load_many(path, ranks)
        assert resolved["communication_data_type"] == "fp32"
        assert gradients_reduced_in(resolved) == "fp32"
    assert "communication_data_type" not in load_many(path, 64, "float32")
    assert gradients_reduced_in(load_many(path, 64, "float32")) == "fp32"
    accumulated = gradients_accumulated_in(load_many(path, 64))
    assert accumulated == ("bf16" if stage == 0 else "fp32")


def test_a_file_that_says_how_to_sum_wins(tmp_path):
    for said, ranks, becomes in (
        ("bf16", 64, "bf16"),
        ("fp32", 2, "fp32"),
        ("auto", 64, "fp32"),
        ("auto", 2, "bf16"),
    ):
        path = written(
            tmp_path, {"communication_data_type": said, "zero_optimization": {"stage": 2}}
        )
        resolved = load_many(path, ranks)
        assert gradients_reduced_in(resolved) == becomes
        assert resolved.get("communication_data_type") != "auto"  # which DeepSpeed refuses
