"""AlphaDecayCallback in a real transformers.Trainer: one process, and two ranks under DDP, FSDP2,
ZeRO-2 and ZeRO-3.

The oracle is tests/distributed/reference.py: an unsharded loop with one stock group per module and
    float64 spectra.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from alphadecay import AdamW, AlphaDecay
from tests.distributed import reference
from tests.distributed.harness import init_deepspeed, run_ranks

STEPS = 7
SAVE = 4
INTERVAL = 3
ROWS = 8
ACCUMULATION = 2
CLIP = 0.5
BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class Case:
    """One way to run: the wrapper, the optimizer ("own" AdamW, the Trainer's "default", or one in
    the DeepSpeed "json"), choices.
    """

    wrapper: str = ""
    optimizer: str = "default"
    interval: int = INTERVAL
    spread: int = 0


# interval, spread: measured before step 4, in force from step 7; the save after step 4 falls
# between
SPREAD = (4, 3)
CASES = {
    "one process": [Case(), Case("", "own"), Case("", "default", *SPREAD)],
    "ddp": [Case("ddp"), Case("ddp", "own", *SPREAD)],
    "fsdp2": [Case("fsdp2"), Case("fsdp2", "own")],
    "zero-2": [Case("zero-2"), Case("zero-2", "json")],
    "zero-3": [Case("zero-3"), Case("zero-3", "own")],
}
WRAPPED = {
    "one process": "LlamaForCausalLM",
    "ddp": "DistributedDataParallel",
    "fsdp2": "FSDPLlamaForCausalLM",
}


def switches(case: Case) -> dict[str, Any]:
    """What a user would tell TrainingArguments."""
    if case.wrapper == "fsdp2":
        return {
            "fsdp": True,
            "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]},
        }
    if not case.wrapper.startswith("zero"):
        return {}
    auto = dict.fromkeys(
        ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"),
        "auto",
    )
    config = {**auto, "zero_optimization": {"stage": int(case.wrapper[-1])}}
    if case.optimizer == "json":
        settings = dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")
        config["optimizer"] = {"type": "AdamW", "params": {**settings, "torch_adam": True}}
    return {"deepspeed": config}


def trainer_of(folder: str, case: Case, world: int) -> tuple[Any, Any]:
    """(Trainer, callback) on the oracle's model and data."""
    import accelerate
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    from alphadecay.integrations import AlphaDecayCallback
    from train.models.build import build_model

    class InOrder(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset)

    arguments = TrainingArguments(
        folder,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        per_device_train_batch_size=ROWS // world // ACCUMULATION,
        gradient_accumulation_steps=ACCUMULATION,
        max_steps=STEPS,
        save_steps=SAVE,
        logging_steps=1,
        lr_scheduler_type="constant",
        learning_rate=reference.LR,
        weight_decay=reference.WEIGHT_DECAY,
        adam_beta2=BETAS[1],
        max_grad_norm=CLIP,
        **switches(case),
    )
    # accelerate takes FSDP up on accelerators only: tell it that these gloo ranks are some
    if case.wrapper == "fsdp2":
        accelerate.PartialState(cpu=True)
        accelerate.PartialState._shared_state["distributed_type"] = (
            accelerate.DistributedType.MULTI_GPU
        )
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    rows = torch.cat([reference.tokens(step, ROWS) for step in range(1, STEPS + 1)]).tolist()
    settings = {"lr": reference.LR, "weight_decay": reference.WEIGHT_DECAY, "betas": BETAS}
    own: dict[str, Any] = {}
    # the Trainer wants the class here, for it replaces the parameters
    if case.optimizer == "own" and case.wrapper == "fsdp2":
        own = {"optimizer_cls_and_kwargs": (AdamW, settings)}
    elif case.optimizer == "own":
        own = {"optimizers": (AdamW(model.parameters(), **settings), None)}
    callback = AlphaDecayCallback(interval=case.interval, spread=case.spread)
    data = Dataset.from_dict({"input_ids": rows, "labels": rows})
    return InOrder(model, arguments, train_dataset=data, callbacks=[callback], **own), callback


def gathered(trainer: Any) -> dict[str, torch.Tensor]:
    """Name -> whole weight. Collective."""
    weights = {}
    for name, parameter in trainer.model.named_parameters():
        if hasattr(parameter, "ds_id"):
            import deepspeed

            with deepspeed.zero.GatheredParameters([parameter]):
                weights[name] = parameter.detach().clone()
        else:
            weights[name] = (
                (parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter)
                .detach()
                .clone()
            )
    return weights


def seen(trainer: Any, callback: Any) -> dict[str, Any]:
    return {
        "weights": gathered(trainer),
        "state": callback.decay.state_dict(),
        "wrapped": type(trainer.model_wrapped).__name__,
        "log": [line for line in trainer.state.log_history if "alphadecay/alpha_mean" in line],
        "step": trainer.state.global_step,
    }


def whole_and_resumed(
    rank: int, folder: str, world: int, cases: list[Case]
) -> list[dict[str, Any]]:
    """Run each case to its end, and once more from its checkpoint."""
    if world > 1:
        os.environ["LOCAL_WORLD_SIZE"] = str(world)
        init_deepspeed()
    results = []
    for number, case in enumerate(cases):
        place = Path(folder) / str(number)
        trainer, callback = trainer_of(str(place), case, world)
        trainer.train()
        whole = seen(trainer, callback)
        # training has ended and given the optimizer back
        last = AlphaDecay(trainer.model_wrapped, trainer.optimizer)
        refreshed = last.weight_decays
        last.remove()
        trainer, callback = trainer_of(str(place), case, world)
        trainer.train(resume_from_checkpoint=str(place / f"checkpoint-{SAVE}"))
        results.append({"whole": whole, "resumed": seen(trainer, callback), "refreshed": refreshed})
    return results


def decays_of(weights: dict[str, torch.Tensor]) -> dict[str, float]:
    """AlphaDecay's decays for a model that nothing wraps."""
    from train.models.build import build_model

    model = build_model(reference.TINY, reference.LENGTH, seed=0)
    model.load_state_dict(weights, strict=False)
    return AlphaDecay(
        model, AdamW(model.parameters(), weight_decay=reference.WEIGHT_DECAY)
    ).weight_decays


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert set(ours) == set(theirs)
    return max(float((ours[name] - weight).abs().max()) for name, weight in theirs.items())


def check_resumed(ranks: list[dict[str, Any]], folder: Path, case: Case) -> None:
    """Every rank agrees, and the resumed run ended where the whole one did, to the bit."""
    first = ranks[0]
    for rank in ranks:
        assert repr(rank["whole"]["state"]) == repr(first["whole"]["state"])
        assert repr(rank["resumed"]["state"]) == repr(rank["whole"]["state"])
        assert rank["resumed"]["step"] == rank["whole"]["step"] == STEPS
        assert all(
            torch.equal(rank["resumed"]["weights"][name], weight)
            for name, weight in rank["whole"]["weights"].items()
        )
    stored = json.loads((folder / f"checkpoint-{SAVE}" / "trainer_state.json").read_text())[
        "stateful_callbacks"
    ]["AlphaDecayCallback"]
    saved = stored["attributes"]["saved"]
    assert saved["step"] == SAVE
    assert ("pending" in saved) == bool(case.spread)


def check_against_oracle(run: dict[str, Any], refreshed: dict[str, float]) -> None:
    weights, history = reference.train_unsharded(torch.optim.AdamW, STEPS, ROWS, INTERVAL, CLIP)
    uniform = reference.train_unsharded(
        torch.optim.AdamW, STEPS, ROWS, INTERVAL, CLIP, module_wise=False
    )[0]
    modules = run["state"]["modules"]
    base = reference.WEIGHT_DECAY
    assert {name: base * numbers["ratio"] for name, numbers in modules.items()} == pytest.approx(
        history[-1], rel=1e-3
    )
    assert run["state"]["last_refresh_step"] == STEPS // INTERVAL * INTERVAL
    # Sums in another order, passed on by Adam's division: 2 % of a step. A decay that went astray
    # is far outside.
    assert distance(run["weights"], weights) < 0.02 * reference.LR < distance(uniform, weights) / 5
    assert refreshed == decays_of(run["weights"])
    assert [line["step"] for line in run["log"]] == [0, 2, 5]  # before steps 1, 3 and 6
    for line, oracle in zip(run["log"], history, strict=True):
        assert line["alphadecay/weight_decay_max"] == pytest.approx(max(oracle.values()))
        assert line["alphadecay/weight_decay_mean"] == pytest.approx(
            sum(oracle.values()) / len(oracle), rel=1e-3
        )


@pytest.mark.parametrize("name", CASES)
def test_trains_saves_and_resumes(tmp_path: Path, name: str) -> None:
    if name == "one process":
        ranks = [whole_and_resumed(0, str(tmp_path), 1, CASES[name])]
    else:
        ranks = run_ranks(2, whole_and_resumed, str(tmp_path), 2, CASES[name])
    for number, case in enumerate(CASES[name]):
        of_case = [rank[number] for rank in ranks]
        check_resumed(of_case, tmp_path / str(number), case)
        assert of_case[0]["whole"]["wrapped"] == WRAPPED.get(name, "DeepSpeedEngine")
        if not case.spread:
            check_against_oracle(of_case[0]["whole"], of_case[0]["refreshed"])
