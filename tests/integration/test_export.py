"""A run becomes a Hugging Face folder that plain transformers loads, with the run's own logits and
tokens; and it writes text.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.integration.program import run as run_program
from train.data.tokenizers.load import load_tokenizer
from train.export.command import Form, export
from train.export.command import main as export_main
from train.export.generate import Sampling, generate
from train.export.generate import main as generate_main
from train.export.trained import find_trained

TEXT = "abc  def\n\tnaïve 日本 </s> <0x0A> " + "mnop abcd " * 20
# What somebody else does with the folder: nothing of ours is imported, nor can it be.
STRANGER = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer(sys.argv[3])["input_ids"]
with torch.no_grad():
    logits = model(torch.arange(32)[None]).logits
assert not [name for name in sys.modules if name.split(".")[0] in ("train", "alphadecay")]
ends = [tokenizer.eos_token_id, model.generation_config.eos_token_id]
torch.save([logits, ids, tokenizer.decode(ids), *ends], sys.argv[2])
"""


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory) -> tuple[Path, Path]:
    """(run, export) of two ranks under ZeRO-3."""
    run = finished("torchrun")
    out = tmp_path_factory.mktemp("export") / "hf"
    arguments = ("export", str(run), "--out", str(out), "--shard-size", "40KB")
    done = run_program(1, ROOT, "-m", "train", *arguments)
    assert done.code == 0, done.output
    assert "step-00000006, step 6" in done.output and "Traceback" not in done.output
    return run, out


def test_a_stranger_gets_the_same_logits_and_tokens(exported, tmp_path):
    run, out = exported
    stranger = [sys.executable, "-c", STRANGER, str(out), str(tmp_path / "got.pt"), TEXT]
    done = subprocess.run(stranger, cwd=tmp_path, text=True, capture_output=True, timeout=150)
    assert done.returncode == 0, done.stderr
    logits, ids, text, eos, generation_eos = torch.load(tmp_path / "got.pt")
    trained = find_trained(run, "", print)
    with torch.no_grad():
        assert torch.equal(trained.load(torch.float32)(torch.arange(32)[None]).logits, logits)
    assert (
        ids == trained.tokenizer.encode([TEXT])[0] and text == trained.tokenizer.decode(ids) == TEXT
    )
    assert eos == generation_eos == trained.tokenizer.eos_id


def test_what_is_in_the_folder(exported):
    _, out = exported
    names = {path.name for path in out.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
    } <= names
    shards = [name for name in names if name.endswith(".safetensors")]
    assert len(shards) > 1 and "model.safetensors.index.json" in names
    config = json.loads((out / "config.json").read_text())
    assert (
        config["architectures"] == ["LlamaForCausalLM"]
        and config["vocab_size"] == 320
        and config["use_cache"] is True
    )
    assert not list(out.parent.glob(".*"))


def test_others_may_read_it_as_the_umask_says(exported):
    _, out = exported
    mask = os.umask(0o077)
    os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~mask)


def test_the_card_tells_the_run_and_its_lines_load_it(exported, tmp_path):
    run, out = exported
    card = (out / "README.md").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert f"| Validation, the mean over tokens | {summary['val_perplexity']:,.2f} |" in card
    published = f"{summary['val_perplexity_published']:,.2f}"
    assert f"| The same, as AlphaDecay's published code counts | {published} |" in card
    assert f"| Tokens | {summary['tokens']:,} |" in card and "ZeRO-3" in card
    assert str(ROOT) not in card and str(run) not in card
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    program = [sys.executable, "-c", lines]
    done = subprocess.run(program, cwd=out, text=True, capture_output=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time")


def test_bfloat16_is_the_masters_rounded(exported, tmp_path):
    run, _ = exported
    export(run / "checkpoints" / "step-00000003", tmp_path / "hf", form=Form("bfloat16"))
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "hf" / "model.safetensors")
    masters = (
        find_trained(run / "checkpoints" / "step-00000003", "", print)
        .load(torch.float32)
        .state_dict()
    )
    assert weights.keys() == masters.keys() and all(
        torch.equal(w, masters[name].bfloat16()) for name, w in weights.items()
    )


def test_nothing_is_overwritten_unless_asked(exported, tmp_path, capsys):
    run, out = exported
    before = (out / "config.json").stat().st_mtime_ns
    assert export_main([str(run), "--out", str(out)]) == 2
    assert (
        "--force" in capsys.readouterr().err and (out / "config.json").stat().st_mtime_ns == before
    )
    copy = tmp_path / "hf"
    shutil.copytree(out, copy)
    (copy / "stale.bin").touch()
    assert export_main([str(run), "--out", str(copy), "--force"]) == 0
    assert not (copy / "stale.bin").exists() and [path.name for path in tmp_path.iterdir()] == [
        "hf"
    ]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    assert export_main([str(run), "--out", str(tmp_path / "mine"), "--force"]) == 2
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_damaged_checkpoint_is_not_unpickled(exported, tmp_path):
    run, _ = exported
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged)
    for path in damaged.glob("checkpoints/*/state/*"):
        path.write_bytes(b"x" * path.stat().st_size)
    assert export_main([str(damaged), "--out", str(tmp_path / "hf")]) == 2
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("what", ["none", "empty"])
def test_nothing_to_export(tmp_path, capsys, what):
    (tmp_path / "empty").mkdir()
    assert export_main([str(tmp_path / what), "--out", str(tmp_path / "hf")]) == 2
    assert "runs/quickstart" in capsys.readouterr().err


def test_text_is_the_same_from_run_and_export_and_repeats(exported, capsys):
    run, out = exported
    prompt = "abc def"
    greedy = generate(run, prompt, 12)
    assert greedy == generate(out, prompt, 12) != ""
    warm = [generate(run, prompt, 12, Sampling(1.0, seed=seed)) for seed in (1, 1, 2)]
    assert warm[0] == warm[1] != warm[2]
    assert (
        generate_main(
            [str(run / "checkpoints" / "step-00000006"), "--prompt", prompt, "--tokens", "12"]
        )
        == 0
    )
    assert capsys.readouterr().out == prompt + greedy + "\n"


def test_greedy_text_is_the_likeliest_token_each_time(exported):
    run, _ = exported
    trained = find_trained(run, "", print)
    model = trained.load(torch.float32)
    ids = trained.tokenizer.encode(["abc def"])[0]
    for _ in range(8):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert "abc def" + generate(run, "abc def", 8) == trained.tokenizer.decode(ids)


def test_the_run_keeps_its_tokenizer(exported, workplace, capsys, tmp_path):
    run, _ = exported
    prepared = next((workplace.folder / "prepared").glob("*/tokenizer.model"))
    assert (run / "tokenizer.model").read_bytes() == prepared.read_bytes()
    assert load_tokenizer(run / "tokenizer.model").size == 320
    bare = tmp_path / "run"
    shutil.copytree(run / "checkpoints", bare / "checkpoints")
    assert generate_main([str(bare), "--tokens", "2"]) == 2
    assert "--tokenizer FILE.model" in capsys.readouterr().err
    assert generate_main([str(bare), "--tokens", "2", "--tokenizer", str(prepared)]) == 0
