"""The figures at the top, from whatever a run has left so far."""

import json
import math
from dataclasses import replace

import pytest

from alphadecay.inspect.html.report import render
from alphadecay.inspect.html.summary_cards import facts, headline, version_facts
from alphadecay.inspect.run.parts import TRAINING
from alphadecay.inspect.run.reader import read_run
from alphadecay.inspect.run.versions import versions
from tests.unit.alphadecay.inspect.html.made_run import make_run
from train.config import DeepSpeedConfig, EngineConfig, TrainConfig
from train.config.command_line import dump_config
from train.loop.run_status import write_state
from train.telemetry.attempts import AttemptLog
from train.telemetry.metrics import MetricsWriter, read_metrics
from train.telemetry.summary import write_summary

SUMMARY = {
    "name": "a run",
    "world_size": 4,
    "zero_stage": 3,
    "device": "cuda",
    "precision": "bfloat16",
    "method": "alphadecay",
    "steps": 12,
    "tokens": 1200,
    "tokens_per_second": 77.0,
    "mfu": 0.5,
    "model_parameters": 6_843_648,
}


def test_a_finished_run(tmp_path):
    folder = make_run(tmp_path / "run")
    write_summary(folder / "summary.json", SUMMARY)
    cards = dict(facts(read_run(folder)))
    assert (
        cards["Method"] == "alphadecay"
        and cards["Validation perplexity"] == "2,981 → 2,644"
        and cards["Tokens"] == "1,200"
    )
    assert (
        cards["Tokens per second"] == "77"
        and cards["MFU"] == "50.0% of 2 TFLOP/s"
        and cards["Parameters"] == "6.84M"
    )
    assert (
        cards["Device"] == "cuda · 4 ranks · ZeRO-3 · bfloat16"
        and cards["Skipped steps"] == "1"
        and "Loss spikes" not in cards
    )
    assert headline(read_run(folder)) == ("finished", "step 12 of 12")
    whose, said = version_facts(read_run(folder))
    assert whose == "that ran it" and dict(said)["torch"] == versions()["torch"]


@pytest.mark.parametrize(
    ("shard", "engine"), [(0, "FSDP2"), (4, "FSDP2"), (2, "FSDP2 (HSDP, 2 ranks a copy)")]
)
def test_the_engine_is_named_while_the_run_lasts_and_after(tmp_path, shard, engine):
    """It is named by the newest checkpoint and config.yaml at first, then by summary.json."""
    folder = make_run(tmp_path / "run", state="running")
    config = TrainConfig(engine=EngineConfig(kind="fsdp2", shard=shard))
    (folder / "config.yaml").write_text(dump_config(config))
    run = read_run(folder)
    manifest = {"engine": "fsdp2", "world_size": 4, "precision": "bf16"}
    cards = dict(facts(replace(run, manifest=manifest, summary={})))
    assert cards["Device"] == f"4 ranks · {engine} · bf16"

    own = {key: value for key, value in SUMMARY.items() if key != "zero_stage"}
    own |= {"engine": "fsdp2", "engine_shard": shard or 4}
    cards = dict(facts(replace(run, manifest=manifest, summary=own, config={})))
    assert cards["Device"] == f"cuda · 4 ranks · {engine} · bfloat16"


def test_the_published_perplexity_beside_the_true_one(tmp_path):
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        record = {
            "kind": "validation",
            "step": 12,
            "val_loss": 7.0,
            "val_perplexity": 1096.6,
            "val_perplexity_published": 900.5,
        }
        file.write(json.dumps(record) + "\n")
    assert dict(facts(read_run(folder)))["The same, as the published code counts"] == "900.5"


def test_speed_of_a_run_under_way_is_that_of_its_records(tmp_path):
    folder = make_run(tmp_path / "run", state="running")
    write_summary(folder / "summary.json", SUMMARY | {"steps": 6})  # of the run before it went on
    cards = dict(facts(read_run(folder)))
    seconds = math.fsum(
        record["seconds"][part]
        for record in read_metrics(folder / "metrics.jsonl", "train")
        for part in TRAINING
    )
    assert float(cards["Tokens per second"].replace(",", "")) == pytest.approx(
        1200 / seconds, rel=1e-3
    )
    assert cards["MFU"] == "25.0% of 2 TFLOP/s"
    assert headline(read_run(folder))[1].startswith("step 12 of 12 · unless it was killed")


def test_what_auto_took_has_a_card_for_as_long_as_it_holds(tmp_path):
    folder = make_run(tmp_path / "run", state="running")
    assert "Sizes" not in dict(facts(read_run(folder)))
    said = "auto takes a micro batch of 4: about <6 GB> on a card of 24 GB; 8 would take 20 GB"
    sizes = {"micro_batch": 4, "ds_config": "ds_configs/zero1.json"}
    with MetricsWriter(folder / "metrics.jsonl", resume_step=12) as writer:
        writer.write("notice", 12, {"notice": said, **sizes})
    config = TrainConfig(deepspeed=DeepSpeedConfig(config=sizes["ds_config"]))
    for rows, card in ((4, said), (8, None)):  # a later start gave it others
        given = replace(config, run=replace(config.run, micro_batch=rows))
        (folder / "config.yaml").write_text(dump_config(given))
        assert dict(facts(read_run(folder))).get("Sizes") == card
        shown = '<div class="wide"><dt>Sizes</dt><dd>auto takes a micro batch of 4: about &lt;6 GB'
        assert (shown in render(read_run(folder))) == (card is not None)


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_the_reason_is_told(tmp_path, state):
    folder = make_run(tmp_path / "run", state=state, reason="SIGTERM, and so on")
    assert headline(read_run(folder)) == (state, "step 12 of 12 · SIGTERM, and so on")
    assert (
        f'<div class="state {state}"><b>{state}</b> at step 12 of 12 · SIGTERM, and so on</div>'
        in render(read_run(folder))
    )


def test_how_much_of_the_wall_time_was_training(tmp_path):
    folder = make_run(tmp_path / "run", state="running")
    without = render(read_run(folder))
    assert "Goodput" not in without and "there is no attempts.jsonl" in without
    log = AttemptLog(folder / "attempts.jsonl", 0, False, print, now=iter([10, 20, 50]).__next__)
    log.loop_begins(10.0)
    log.open()
    log.add({"forward_backward": 20.0, "step": 8.0, "data": 1.0})
    log.note(12)
    log.close()
    run = read_run(folder)
    assert dict(facts(run))["Goodput"] == "70.0% of 0:40"
    text = render(run)
    assert (
        "Training was 70.0% of 0:40. The rest: start 25.0%, waiting for data 2.5%, other 2.5%."
        in text
    )


def test_a_run_with_nothing_but_metrics(tmp_path):
    folder = make_run(tmp_path / "run")
    for name in ("config.yaml", "state.json"):
        (folder / name).unlink()
    text = render(read_run(folder))
    assert (
        "This run has no config.yaml" in text
        and "this run has no state.json" in text
        and "<h1>run</h1>" in text
    )


def test_a_run_before_its_first_step(tmp_path):
    folder = make_run(tmp_path / "run", state="running")
    (folder / "metrics.jsonl").write_text("")
    text = render(read_run(folder))
    assert (
        "No training step has been recorded yet" in text
        and "no refresh has been recorded yet" in text
        and "Nothing was timed" in text
    )


@pytest.mark.parametrize(
    ("method", "words"), [("uniform", "one decay for all, 0.1"), ("none", "no decay at all")]
)
def test_a_run_without_refreshes(tmp_path, method, words):
    text = render(read_run(make_run(tmp_path / "run", interval=0, method=method)))
    assert f"decay.method is {method}, {words}" in text and 'id="map-' not in text


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    folder = make_run(tmp_path / "run")
    write_state(folder, "running")
    with (folder / "metrics.jsonl").open("a") as file:
        # cut by a kill
        file.write(
            '{"kind": "train", "step": 13, "loss": 1.5, "tokens": 1300, "seconds": {"data": '
            '1.0}}\n{"kind": "tra'
        )
    run = read_run(folder)
    assert (
        run.last_step == 13
        and dict(facts(run))["Training loss"] == "1.5000"
        and dict(facts(run))["Tokens"] == "1,300"
    )
