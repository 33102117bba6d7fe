"""Which runs count, and why the others do not."""

import json

import pytest

from tests.unit.train.experiments.tables.making import finish, make_grid, runs_of
from train.experiments.grids.first_step import FirstStep
from train.experiments.tables.collect import Absent, Record, collect
from train.loop.run_status import write_state


@pytest.fixture
def run(tmp_path):
    return runs_of(make_grid({"toy": {}}), tmp_path, "AlphaDecay", "toy")[1]


def only(run, extra=None):
    """The record or absence of one run."""
    collected = collect([run], extra or {})
    [entry] = [*collected.records, *collected.absent]
    return entry


def test_a_finished_run_counts(run):
    finish(run, 31.5, 29.25)
    record = only(run)
    assert isinstance(record, Record)
    assert (record.value, record.published) == (31.5, 29.25)
    assert record.config.run.seed == 1 and record.summary["world_size"] == 2
    assert record.tokenizer == "97ff8a35544dcf40ad84047074439dd6aa3a0be469ea578a1b1c017d939ec61c"


def test_what_is_not_there_is_missing(run):
    assert only(run) == Absent(run, "missing", "never started")
    run.folder.mkdir(parents=True)
    assert only(run).why == "missing"
    (run.folder / "log.txt").write_text("killed")
    assert only(run) == Absent(run, "unfinished", "no state.json that can be read")


@pytest.mark.parametrize(
    ("state", "why"), [("running", "unfinished"), ("stopped", "unfinished"), ("failed", "failed")]
)
def test_a_run_that_is_not_finished_says_where_it_stands(run, state, why):
    finish(run, 31.5)
    write_state(run.folder, state, step=7, steps=150, reason="SIGTERM")
    assert only(run) == Absent(run, why, f"{state} at step 7 of 150: SIGTERM")


def test_other_settings_are_told(run):
    finish(run, 31.5, overrides={"optim.lr": "0.5", "run.global_batch": "64"})
    absent = only(run)
    assert absent.why == "other settings"
    assert absent.detail == "optim.lr was 0.5, is 0.002; run.global_batch was 64, is 32"


def test_another_seed_in_the_folder_is_another_setting(run):
    finish(run, 31.5)
    path = run.folder / "config.yaml"
    path.write_text(path.read_text().replace("  seed: 1\n", "  seed: 9\n"))
    assert only(run).detail == "run.seed was 9, is 1"


def test_more_differences_than_are_shown_are_counted(run):
    changes = {
        "optim.lr": "1",
        "optim.eps": "1",
        "optim.grad_clip": "2",
        "decay.s1": "1",
        "decay.s2": "2",
        "eval.tokens": "1",
    }
    finish(run, 31.5, overrides=changes)
    assert only(run).detail.count(" was ") == 4 and only(run).detail.endswith("; and 2 more")


def test_settings_that_do_not_touch_the_figures_are_free(run):
    where = {"data.directory": "elsewhere", "log.every": "7", "checkpoint.every": "9"}
    how = {
        "run.micro_batch": "8",
        "deepspeed.config": "ds_configs/zero2.json",
        "model.activation_checkpointing": "true",
    }
    finish(run, 31.5, overrides=where | how)
    assert isinstance(only(run), Record)


def test_overrides_of_the_sweep_belong_to_what_is_expected(run):
    finish(run, 31.5, overrides={"data.rows": "padded"})
    assert only(run).why == "other settings"
    assert isinstance(only(run, {"data.rows": "padded"}), Record)


@pytest.mark.parametrize("figure", [None, "x"])
def test_a_run_without_a_finite_perplexity_diverged(run, figure):
    finish(run, figure)
    assert only(run) == Absent(run, "diverged", "finished without a finite perplexity")


def test_what_cannot_be_read_is_told(run):
    finish(run, 31.5)
    kept = (run.folder / "summary.json").read_text()
    (run.folder / "summary.json").write_text("{")
    assert only(run) == Absent(run, "unreadable", "no summary.json that can be read")
    (run.folder / "summary.json").write_text(json.dumps(json.loads(kept) | {"steps": 9}))
    assert only(run) == Absent(run, "unreadable", "summary.json is of another run: steps 9")
    (run.folder / "config.yaml").write_text("nonsense: 1\n")
    assert only(run).why == "unreadable" and "nonsense" in only(run).detail


def test_a_run_of_an_older_program_counts_without_what_it_did_not_record(run):
    finish(run, 31.5)
    (run.folder / "tokenizer.model").unlink()
    record = only(run)
    assert (record.published, record.tokenizer) == (None, None)


def test_a_grid_may_compare_by_the_step_that_reaches_a_bound(run):
    finish(run, 31.5, val_accuracy=99.5)
    accuracies = {0: 2.0, 50: 98.9, 100: 99.1, 150: 98.0}
    lines = [
        json.dumps({"kind": "validation", "step": step, "val_accuracy": accuracy})
        for step, accuracy in accuracies.items()
    ]
    (run.folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")

    def outcome(reaches):
        collected = collect([run], {}, FirstStep("val_accuracy", reaches, "grokking step"))
        [found] = [*collected.records, *collected.absent]
        return found

    record = outcome(99)
    assert isinstance(record, Record)
    assert (record.value, record.published) == (100.0, None)
    assert record.figure == ("first_val_accuracy", "grokking step", "lower")
    never = Absent(run, "not reached", "val_accuracy is 99.5 at step 150, not 99.9")
    assert outcome(99.9) == never
