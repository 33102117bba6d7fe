"""What decay.base auto takes from a run's settings, its text and what it goes on from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.command_line import load_config
from train.errors import UserError
from train.loop import auto_decay
from train.loop.auto_decay import choose_base, settle_base
from train.loop.decay_methods import check_method
from train.models.build import build_model, count_parameters

TINY = (
    "--model.vocab_size=64",
    "--model.hidden_size=16",
    "--model.intermediate_size=24",
    "--model.num_layers=1",
    "--model.num_heads=2",
    "--data.source=stdlib",
    "--data.sequence_length=32",
    "--run.global_batch=8",
    "--run.steps=100",
    "--optim.lr=0.01",
    "--optim.warmup_steps=0",
    "--optim.name=adamw",
    "--decay.base=auto",
)
TOKENS = 100 * 8 * 32
WORLD = World(0, 0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, float | None]:
    """How often the text is read."""
    said: dict[str, float | None] = {"passes": 4.0}
    monkeypatch.setattr(auto_decay, "passes_over_text", lambda config: said["passes"])
    return said


def config_of(tmp_path: Path, *more: str) -> TrainConfig:
    own = {argument.partition("=")[0] for argument in more}
    common = [each for each in TINY if each.partition("=")[0] not in own]
    return load_config([*common, f"--output_dir={tmp_path}/run", *more])


def chosen(config: TrainConfig) -> tuple[float, str]:
    found = choose_base(config)
    assert found is not None
    check_method(found[0])
    return found[0].optim.weight_decay, found[1]


def test_from_rate_steps_tokens_and_passes(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    parameters = count_parameters(build_model(config.model, 32, 0))
    share = 1.084 * (TOKENS / parameters) ** -0.527
    assert share < 1
    base, sentence = chosen(config)
    assert base == float(f"{2 / (0.01 * 100 * share):.3g}")
    assert sentence == (
        f"decay.base auto: the base decay is {base:g}, the root of 4 passes over the text / "
        f"(learning rate 0.01 x 100 steps x {share:.3g}), the last being the share of the run to "
        f"average over at {TOKENS / parameters:.3g} tokens a parameter (arXiv 2505.13738)"
    )


def test_a_run_that_goes_on_keeps_its_base(tmp_path: Path) -> None:
    begun = config_of(tmp_path)
    base, _ = chosen(begun)
    folder = tmp_path / "run" / "checkpoints" / "step-00000050"
    folder.mkdir(parents=True)

    def save(decay: dict[str, object]) -> None:
        manifest = {"step": 50, "decay": decay, "optimizer": {"weight_decay": base}}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    save(asdict(begun.decay))
    longer = config_of(tmp_path, "--run.steps=400")
    kept, sentence = chosen(longer)
    assert kept == base
    assert sentence.endswith(f"the run was begun with {base:g} and keeps it")
    assert f"the base decay is {base:g}," not in sentence
    save(asdict(begun.decay) | {"base": "given"})
    again, sentence = chosen(longer)
    assert again != base and "keeps" not in sentence


def test_given_stays_what_it_is(tmp_path: Path) -> None:
    config = config_of(tmp_path, "--decay.base=given")
    assert settle_base(config, WORLD) is config


def test_a_run_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(tmp_path)
    assert settle_base(config, WORLD).optim.weight_decay == chosen(config)[0]
    assert capsys.readouterr().out.count("decay.base auto") == 1


def test_text_that_is_not_there(tmp_path: Path, passes: dict[str, float | None]) -> None:
    passes["passes"] = None
    assert choose_base(config_of(tmp_path)) is None
    with pytest.raises(UserError, match="the prepared text is gone"):
        settle_base(config_of(tmp_path), WORLD)
