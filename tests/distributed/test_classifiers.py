"""A ViT and a RoBERTa under the engines and the paper's five methods: two ranks train as one
process does.
"""

from __future__ import annotations

import pytest

from tests.distributed.engine_runs import alone, assert_same, config_of, method, sharded
from tests.distributed.harness import run_ranks

METHODS = ("none", "uniform", "awd", "adadecay", "alphadecay")
MODELS = {
    "vit": (
        "--task=image_classification",
        "--images.source=drawn",
        "--model.architecture=vit",
        "--model.image_size=16",
        "--model.patch_size=8",
        "--model.num_labels=7",
        "--optim.name=adam",
    ),
    "roberta": (
        "--task=text_classification",
        "--sentences.source=stdlib",
        "--sentences.sequence_length=16",
        "--model.architecture=roberta",
        "--model.num_labels=5",
        "--model.dropout=0",
    ),
}


@pytest.mark.parametrize("engine", ["zero1", "zero3", "fsdp2"])
@pytest.mark.parametrize("model", MODELS)
def test_two_ranks_equal_one_process(model: str, engine: str) -> None:
    cases = [(*MODELS[model], *method(name)) for name in METHODS]
    found = run_ranks(2, sharded, cases, (engine,))[0]
    for case, run in zip(cases, found, strict=True):
        assert_same(run, alone(config_of(*case)))
