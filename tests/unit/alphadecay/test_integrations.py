"""What other people's loops see: names in a DeepSpeed JSON, and packages loaded only when asked
for.
"""

from __future__ import annotations

import pydoc
import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.distributed import reference
from tests.distributed.harness import init_deepspeed, run_ranks

STEPS = 3


def named_config(stage: int, kind: str) -> dict[str, Any]:
    optimizer = {
        "type": kind,
        "params": {
            "lr": reference.LR,
            "betas": [0.9, 0.95],
            "weight_decay": reference.WEIGHT_DECAY,
        },
    }
    return {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "optimizer": optimizer,
        "zero_optimization": {
            "stage": stage,
            **({"stage3_param_persistence_threshold": 50} if stage == 3 else {}),
        },
    }


def by_name_rank(rank: int, runs: list[tuple[int, str]]) -> list[dict[str, Any]]:
    init_deepspeed()
    from alphadecay.integrations import register

    register()
    register()
    return [train_by_name(stage, kind) for stage, kind in runs]


def train_by_name(stage: int, kind: str) -> dict[str, Any]:
    import deepspeed

    from alphadecay import AlphaDecay
    from train.models.build import build_model

    config = named_config(stage, kind)
    model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=config
    )
    decay = AlphaDecay(engine, interval=STEPS)
    first = decay.weight_decays
    for step in range(1, STEPS + 1):
        batch = reference.tokens(step, 2)
        engine.backward(engine(input_ids=batch, labels=batch).loss)
        engine.step()
        decay.step()
    weights = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            weights[name] = parameter.detach().clone()
    optimizer = type(engine.basic_optimizer)
    return {
        "optimizer": f"{optimizer.__module__}.{optimizer.__name__}",
        "history": [first, decay.weight_decays],
        "weights": weights,
    }


def test_optimizers_by_name_in_a_deepspeed_json() -> None:
    runs = [
        (2, "AlphaDecayAdamW"),
        (3, "AlphaDecayAdamW"),
        (2, "AlphaDecayAdam"),
        (3, "AlphaDecayAdam"),
    ]
    stock = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam}
    for (stage, kind), seen in zip(runs, run_ranks(1, by_name_rank, runs)[0], strict=True):
        name = kind.removeprefix("AlphaDecay")
        assert seen["optimizer"] == f"alphadecay.optim.adam.{name}"
        weights, history = reference.train_unsharded(
            stock[name], steps=STEPS, rows=2, interval=STEPS, clip=0.0
        )
        for ours, oracle in zip(seen["history"], history, strict=True):
            assert ours == pytest.approx(oracle, rel=1e-3), stage
            assert max(ours.values()) == pytest.approx(reference.S2 * reference.WEIGHT_DECAY)
        for parameter, weight in weights.items():
            torch.testing.assert_close(
                seen["weights"][parameter],
                weight,
                rtol=0,
                atol=2e-5,
                msg=f"{kind}, stage {stage}, {parameter}",
            )


def offloaded_rank(rank: int) -> str:
    """Name our optimizer in the JSON: under offload DeepSpeed then asks for no switch."""
    import deepspeed

    from alphadecay import AlphaDecay
    from alphadecay.integrations import register
    from train.models.build import build_model

    init_deepspeed()
    register()
    config = named_config(2, "AlphaDecayAdamW")
    config["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config=config
    )
    assert len(AlphaDecay(engine).weight_decays) == 14
    return type(engine.basic_optimizer).__module__


def test_offload_by_name_needs_no_switch() -> None:
    assert run_ranks(1, offloaded_rank) == ["alphadecay.optim.adam"]


def test_importing_the_integrations_loads_no_optional_package() -> None:
    code = (
        "import sys, alphadecay.integrations; "
        "print(sorted({'deepspeed', 'transformers', 'accelerate'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_the_configuration_needs_no_torch_and_all_names_are_there() -> None:
    code = (
        "import sys, alphadecay.config; assert 'torch' not in sys.modules; "
        "from alphadecay import *; print(Adam, AdamW, AlphaDecay, pl_alpha_hill)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import alphadecay.integrations

    with pytest.raises(AttributeError, match="lightning"):
        _ = alphadecay.integrations.lightning


def test_the_callback_refuses_an_unknown_option_as_alphadecay_does() -> None:
    from alphadecay import AlphaDecay
    from alphadecay.integrations import AlphaDecayCallback

    with pytest.raises(TypeError, match="unexpected keyword argument 'intervall'"):
        AlphaDecayCallback(intervall=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'intervall'"):
        AlphaDecay(torch.nn.Linear(2, 2), None, intervall=3)
    with pytest.raises(ValueError, match="interval is 0"):
        AlphaDecayCallback(interval=0)


def test_every_option_and_the_plan_are_in_the_help() -> None:
    from inspect import Parameter, signature

    from alphadecay import AlphaDecay, AlphaDecayConfig

    parameters = signature(AlphaDecay).parameters
    assert all(p.kind is not Parameter.VAR_KEYWORD for p in parameters.values())
    for name, field in AlphaDecayConfig.__dataclass_fields__.items():
        assert parameters[name].default == field.default, name
    text = pydoc.render_doc(AlphaDecay)
    assert all(word in text for word in ("plan", "decoupled", "splits", "minimum_range"))


def trainer_of(folder: str, callbacks: list[Any]) -> Any:
    from transformers import Trainer, TrainingArguments

    from alphadecay.examples.setting import Net, batch

    rows = batch(0)
    arguments = TrainingArguments(
        folder, max_steps=2, report_to=[], use_cpu=True, disable_tqdm=True, weight_decay=0.1
    )
    data = [{name: column[i] for name, column in rows.items()} for i in range(16)]
    return Trainer(Net(), arguments, train_dataset=data, callbacks=callbacks)


def test_a_second_callback_is_refused_and_a_second_train_is_not(tmp_path: Any) -> None:
    from alphadecay.integrations import AlphaDecayCallback

    class Another(AlphaDecayCallback):
        pass

    both = trainer_of(str(tmp_path), [AlphaDecayCallback(), Another()])
    with pytest.raises(ValueError, match="has an AlphaDecay already"):
        both.train()
    callback = AlphaDecayCallback()
    trainer = trainer_of(str(tmp_path), [callback])
    trainer.train()
    trainer.train()
    assert len(callback.decay.weight_decays) == 4
