"""What a dry run says of the numbers that gradients are added up in."""

from __future__ import annotations

import pytest

from train.config.command_line import load_config
from train.engines.ds_config import load_ds_config
from train.planning.gradient_plan import gradient_lines


@pytest.mark.parametrize(
    ("stage", "ranks", "precision", "said", "notes"),
    [
        (0, 2, "bf16", ("bfloat16", "bfloat16"), ["2 micro batches in bfloat16"]),
        (1, 2, "bf16", ("float32", "bfloat16"), []),
        (3, 16, "bf16", ("float32", "bfloat16"), ["a sum over 16 ranks in bfloat16"]),
        (0, 64, "bf16", ("bfloat16", "float32"), ["2 micro batches in bfloat16"]),
        (3, 64, "bf16", ("float32", "float32"), []),
        (0, 16, "float32", ("float32", "float32"), []),
    ],
)
def test_it_says_what_gradients_are_added_up_in(stage, ranks, precision, said, notes):
    config = load_config(
        [
            f"--deepspeed.config=zero{stage}",
            f"--run.precision={precision}",
            f"--run.global_batch={2 * ranks}",
            "--run.micro_batch=1",
        ]
    )
    first, *others = gradient_lines(load_ds_config(config, 2, ranks), ranks, 2)
    assert first == (
        f"Gradients: accumulated over micro batches in {said[0]}, reduced over ranks in {said[1]}"
    )
    assert len(others) == len(notes)
    for note, part in zip(others, notes, strict=True):
        assert part in note
    if stage == 0 and notes:
        assert "ZeRO-1 to 3 accumulate in float32" in others[0]


def test_one_micro_batch_is_no_sum():
    config = load_config(["--run.precision=bf16", "--deepspeed.config=zero0"])
    (line,) = gradient_lines(load_ds_config(config, 1, 2), 2, 1)
    assert line.startswith("Gradients: ")
