"""The card of an export says what the run's own files say, as of the checkpoint, and no more."""

import json
import re
import statistics

import pytest
import yaml

from tests.unit.alphadecay.inspect.html.made_run import make_run
from train.checkpoint import Checkpoint
from train.config.command_line import dump_config, load_config
from train.errors import UserError
from train.export.card_sources import Exported
from train.export.command import Form
from train.export.hf_model_card import model_card
from train.telemetry.metrics import MetricsWriter, read_metrics
from train.telemetry.summary import write_summary

MANIFEST = {
    "step": 12,
    "world_size": 8,
    "zero_stage": 2,
    "precision": "bf16",
    "global_batch": 512,
    "sequence_length": 256,
    "seed": 42,
    "init_seed": 7,
    "optimizer": {
        "name": "adamw",
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.1,
    },
    "decay": {
        "method": "alphadecay",
        "interval": 4,
        "s1": 0.67,
        "s2": 5.0,
        "assign": "linear",
        "tail": "hill",
    },
}
RECIPE = ["--name", "a-run", "--run.steps", "12", "--optim.warmup_steps", "3"]
SUMMARY = {"steps": 12, "device": "cuda", "commit": "abc1234567", "sources": "0123456789"}


def checkpoint_of(run, **changes):
    folder = run / "checkpoints" / "step-00000012"
    folder.mkdir(parents=True, exist_ok=True)
    return Checkpoint(folder, MANIFEST | changes)


def card_of(run, license_id="", dtype="float32", **changes):
    return model_card(
        Exported(checkpoint_of(run, **changes), "llama", 6_843_648, dtype), license_id
    )


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def cells(text):
    """Return the first two cells of every row of a table."""
    rows = re.findall(r"^\| ([^|]*?) \| ([^|]*?) \|", text, re.MULTILINE)
    return dict(rows)


@pytest.fixture
def run(tmp_path):
    folder = make_run(tmp_path / "run")
    (folder / "config.yaml").write_text(dump_config(load_config(RECIPE)))
    write_summary(folder / "summary.json", SUMMARY)
    with MetricsWriter(folder / "metrics.jsonl", resume_step=12) as writer:
        writer.write(
            "validation",
            12,
            {"val_perplexity": 31.4159, "val_perplexity_published": 30.25, "val_tokens": 9950000},
        )
    return folder


@pytest.mark.parametrize(
    ("shard", "engine"), [("0", "FSDP2"), ("4", "FSDP2 (HSDP, 4 ranks a copy)")]
)
def test_fsdp2_is_named_with_what_it_keeps(run, monkeypatch, shard, engine):
    monkeypatch.delitem(MANIFEST, "zero_stage")
    recipe = [*RECIPE, "--engine.kind", "fsdp2", "--engine.shard", shard]
    (run / "config.yaml").write_text(dump_config(load_config(recipe)))
    own = cells(card_of(run, engine="fsdp2"))
    assert own["Ranks"] == f"8 on cuda, {engine}"
    assert own["Precision"] == "bf16 with float32 weights"


def test_every_figure_is_the_runs(run):
    text = card_of(run)
    facts = cells(text)
    assert "# a-run\n" in text
    assert "6.84M parameters (llama), pre-trained for 12 steps and 1,200 tokens" in text
    assert facts["Data"] == "C4" and facts["Tokens"] == "1,200" and facts["Steps"] == "12"
    assert facts["Tokenizer"] == "SentencePiece, trained on the corpus"
    assert facts["Schedule"] == "cosine to 10 %, 25 % warm-up"
    assert facts["Peak learning rate"] == "0.001" and facts["Gradient clipping"] == "1"
    assert facts["Rows a step"] == "512" and facts["Tokens in a row"] == "256"
    assert facts["Optimizer"] == "AdamW, beta1 0.9, beta2 0.95, eps 1e-08"
    assert facts["Precision"] == "bf16 with float32 masters"
    assert facts["Ranks"] == "8 on cuda, ZeRO-2"
    assert facts["Seeds"] == "initialisation 7, order of the data 42"
    assert "0.67 to 5.0 times a base of 0.1, refreshed every 4 steps (linear map, hill" in text
    assert facts["Validation, the mean over tokens"] == "31.42"
    assert facts["The same, as AlphaDecay's published code counts"] == "30.25"
    assert facts["Validation tokens"] == "9,950,000" and "Taken at step" not in facts
    assert facts["commit"] == "abc1234567" and facts["sources"] == "0123456789"
    written = json.loads((run / "summary.json").read_text())["versions"]
    assert {facts[name] for name, version in written.items() if version} <= set(written.values())


def test_decays_by_module_type_are_the_last_refresh(run):
    text = card_of(run)
    (record,) = read_metrics(run / "metrics.jsonl", "refresh")[-1:]
    assert "Refreshed last at step 12" in text
    rows = re.findall(r"^\| (q|down) \| (\d+) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert len(rows) == 2
    for kind, count, alpha, decay in rows:
        names = [name for name in record["alphas"] if f"{kind}_proj" in name]
        assert int(count) == len(names) == 3
        for words, key, form in ((alpha, "alphas", ".2f"), (decay, "weight_decays", "#.3g")):
            values = [record[key][name] for name in names]
            figures = (statistics.fmean(values), min(values), max(values))
            mean, least, largest = (format(figure, form) for figure in figures)
            assert words == f"{mean} ({least} to {largest})"


def test_the_front_matter_is_what_the_hub_wants(run):
    from huggingface_hub import ModelCard

    head = front_matter(card_of(run))
    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "text-generation"
    assert head["tags"] == ["llama", "alphadecay"]
    assert head["datasets"] == ["allenai/c4"] and head["language"] == "en"
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 31.4159 and "license" not in head
    assert front_matter(card_of(run, "apache-2.0"))["license"] == "apache-2.0"
    # its own reader takes it
    assert ModelCard(card_of(run)).data.eval_results[0].metric_value == 31.4159


def test_figures_after_an_earlier_checkpoint_are_not_its_own(run):
    text = card_of(run, step=6)
    facts = cells(text)
    assert "Refreshed last at step 4" in text and facts["Tokens"] == "600"
    # the validation before the first step is the last one by then
    assert facts["Validation, the mean over tokens"] == "2,980.96"
    assert facts["Taken at step"] == "0"
    assert "31.42" not in text and "The same, as AlphaDecay's published code counts" not in facts


def test_a_checkpoint_without_its_run_leaves_the_rest_out(tmp_path):
    text = card_of(tmp_path)
    facts = cells(text)
    assert "# llama model\n" in text and "pre-trained for 12 steps. These" in text
    assert facts["Steps"] == "12" and facts["Ranks"] == "8, ZeRO-2"
    for heading in ("## Perplexity", "## Versions", "Refreshed last"):
        assert heading not in text
    assert not {"Data", "Tokens", "Tokenizer", "Schedule"} & facts.keys()
    assert front_matter(text).keys() == {"library_name", "pipeline_tag", "tags"}
    old = card_of(tmp_path, decay={"method": "alphadecay", "s1": 0.67, "s2": 5.0})
    assert "`alphadecay`, around a base of 0.1.\n" in old and "refreshed" not in old
    bare = card_of(tmp_path, decay={}, optimizer={}, world_size=None)
    assert "## Weight decay" not in bare and "Optimizer" not in bare and "Ranks" not in bare


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("none", "None."),
        ("uniform", "One for all weight matrices: 0.1."),
        ("awd", "`awd`, from gradients, around a base of 0.1, refreshed every 4 steps."),
        ("shuffled", "by `shuffled`, a variant of [AlphaDecay]"),
        ("lawn", "None: `lawn` held the norms of the weight matrices."),
    ],
)
def test_other_methods_are_not_called_alphadecay(run, method, words):
    text = card_of(run, decay=MANIFEST["decay"] | {"method": method})
    assert words in text and front_matter(text)["tags"] == ["llama", method]


def test_gradient_methods_have_no_column_of_alpha(tmp_path):
    run = make_run(tmp_path / "run", method="awd", alphas=False)
    text = card_of(run, decay=MANIFEST["decay"] | {"method": "awd"})
    assert "| type | weights | weight decay |\n| --- | ---: | ---: |\n| q | 3 | 0." in text


def test_folders_of_files_are_not_told(run):
    files = ["--data.source", "files", "--data.files", '["/home/me/secret/part-0.jsonl"]']
    (run / "config.yaml").write_text(dump_config(load_config([*RECIPE, *files])))
    text = card_of(run)
    assert cells(text)["Data"] == "files `part-0.jsonl`"
    assert "secret" not in text and "datasets" not in front_matter(text)


def test_the_dtype_is_told(run):
    assert "trained with, rounded to bfloat16." in card_of(run, dtype="bfloat16")


@pytest.mark.parametrize("name", ["Apache 2.0", "MIT", "-x", "a\nb"])
def test_what_is_no_identifier_of_a_license_is_refused(name):
    with pytest.raises(UserError, match="lower case, such as apache"):
        Form(license_id=name)
