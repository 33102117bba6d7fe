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
from train.data.loading.memmap import FORMAT_VERSION, META_NAME, Meta, SplitCounts
from train.loop.auto_decay import choose_base, passes_of, settle_base
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
MIXTURE = (
    '--data.mixture=[{"name": "a", "files": ["a"], "weight": 3.0},'
    ' {"name": "b", "files": ["b"], "weight": 1.0}]'
)
TOKENS = 100 * 8 * 32
WORLD = World(0, 0, 1, torch.device("cpu"))


def corpus(folder: Path, tokens: int) -> Path:
    folder.mkdir()
    meta = Meta(FORMAT_VERSION, "uint16", 64, 0, "", "", "", train=SplitCounts(1, tokens, 1))
    (folder / META_NAME).write_text(json.dumps(asdict(meta)))
    return folder


def config_of(tmp_path: Path, *more: str) -> TrainConfig:
    own = {argument.partition("=")[0] for argument in more}
    common = [each for each in TINY if each.partition("=")[0] not in own]
    return load_config([*common, f"--output_dir={tmp_path}/run", *more])


def test_from_rate_steps_tokens_and_passes(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    parameters = count_parameters(build_model(config.model, 32, 0))
    settled, sentence = choose_base(config, [corpus(tmp_path / "a", TOKENS // 4)])
    share = 1.084 * (TOKENS / parameters) ** -0.527
    assert share < 1
    assert settled.optim.weight_decay == float(f"{2 / (0.01 * 100 * share):.3g}")
    assert sentence == (
        f"decay.base auto: the base decay is {settled.optim.weight_decay:g}, the root of 4 passes "
        f"over the text / (learning rate 0.01 x 100 steps x {share:.3g}), the last being the share "
        f"of the run to average over at {TOKENS / parameters:.3g} tokens a parameter (arXiv "
        "2505.13738)"
    )
    check_method(settled)


def test_text_that_is_not_read_to_its_end_is_one_pass(tmp_path: Path) -> None:
    assert passes_of(config_of(tmp_path), TOKENS, [corpus(tmp_path / "a", 2 * TOKENS)]) == 1.0


def test_a_mixture_counts_by_token(tmp_path: Path) -> None:
    folders = [corpus(tmp_path / "a", TOKENS), corpus(tmp_path / "b", TOKENS // 32)]
    config = config_of(tmp_path, "--data.source=files", MIXTURE)
    # three quarters of the tokens see 0.75 passes, one quarter 8
    assert passes_of(config, TOKENS, folders) == pytest.approx(0.75 * 0.75 + 0.25 * 8)


def test_a_run_that_goes_on_keeps_its_base(tmp_path: Path) -> None:
    folders = [corpus(tmp_path / "a", TOKENS)]
    begun, _ = choose_base(config_of(tmp_path), folders)
    saved = {
        "step": 50,
        "decay": asdict(begun.decay),
        "optimizer": {"weight_decay": begun.optim.weight_decay},
    }
    folder = tmp_path / "run" / "checkpoints" / "step-00000050"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(saved))
    longer, sentence = choose_base(config_of(tmp_path, "--run.steps=400"), folders)
    assert longer.optim.weight_decay == begun.optim.weight_decay
    assert sentence.endswith(f"begun with {begun.optim.weight_decay:g} and keeps it")
    assert f"the base decay is {begun.optim.weight_decay:g}," not in sentence
    saved["decay"]["base"] = "given"
    (folder / "manifest.json").write_text(json.dumps(saved))
    again, sentence = choose_base(config_of(tmp_path, "--run.steps=400"), folders)
    assert again.optim.weight_decay != begun.optim.weight_decay and "keeps" not in sentence


def test_given_stays_what_it_is(tmp_path: Path) -> None:
    config = config_of(tmp_path, "--decay.base=given")
    assert settle_base(config, [], WORLD) is config


def test_it_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(tmp_path)
    settled = settle_base(config, [corpus(tmp_path / "a", TOKENS)], WORLD)
    assert settled.optim.weight_decay != config.optim.weight_decay
    assert capsys.readouterr().out.count("decay.base auto") == 1
