"""Tables name the engine of every run, and say where a column's runs differ in it."""

import csv
import io
import json

from tests.unit.train.experiments.tables.making import fill, finish, make_grid, runs_of
from train.experiments.tables.collect import collect
from train.experiments.tables.csv_json import as_json, runs_csv
from train.experiments.tables.setup_notes import caption
from train.experiments.tables.table import make_table


def caption_of(grid, root):
    return caption(grid, collect(grid.runs(root)).records)


def test_runs_of_one_column_that_differ_in_their_engine_are_named(tmp_path):
    grid = make_grid({"toy": {}}, seeds=[1, 2])
    fill(grid, tmp_path, {(row, "toy"): {1: (90.0, 80.0), 2: (90.0, 80.0)} for row in grid.rows})
    finish(runs_of(grid, tmp_path, "Uniform", "toy")[1], 90.0, zero_stage=1, engine="deepspeed")
    run = runs_of(grid, tmp_path, "AlphaDecay", "toy")[2]
    own = {"engine": "fsdp2", "precision": "bfloat16"}
    finish(run, 90.0, overrides={"engine.shard": "1"}, **own)
    # what summary.json of FSDP2 does not have
    summary = json.loads((run.folder / "summary.json").read_text())
    del summary["zero_stage"]
    (run.folder / "summary.json").write_text(json.dumps(summary))
    hybrid = "FSDP2 (HSDP, 1 rank a copy)"
    notes = caption_of(grid, tmp_path)
    assert notes.disagreements == (
        "toy: precision: float32 in 3 runs, bfloat16 in AlphaDecay seed 2",
        f"toy: engine: ZeRO-3 in 2 runs, ZeRO-1 in Uniform seed 1, {hybrid} in AlphaDecay seed 2",
    )
    made = dict(notes.made)
    for engine in ("ZeRO-1 (Uniform)", "ZeRO-3", f"{hybrid} (AlphaDecay)"):
        assert f"2 on cpu, {engine}" in made["ranks"]
    assert "None" not in made["ranks"]


def test_fsdp2_keeps_weights_in_float32_and_no_masters(tmp_path):
    grid = make_grid({"60M": {}}, ["Uniform"], [42], source="arXiv 2506.14562", recipe="llama_60m")
    for engine, kept in (("deepspeed", "masters"), ("fsdp2", "weights")):
        own = {"engine": engine, "precision": "bfloat16"}
        finish(runs_of(grid, tmp_path, "Uniform", "60M")[42], 32.7, **own)
        departures = {d.what: d.here for d in caption_of(grid, tmp_path).departures}
        assert departures["precision"] == f"bfloat16 with float32 {kept}"


def test_a_line_a_run_names_its_engine(tmp_path):
    grid = make_grid({"wide": {}}, seeds=[1])
    fill(grid, tmp_path, {("Uniform", "wide"): {1: (31.0, 29.0)}}, engine="deepspeed")
    own = {"engine": "fsdp2", "engine_shard": 1, "zero_stage": None}
    fill(grid, tmp_path, {("AlphaDecay", "wide"): {1: (31.0, 29.0)}}, **own)
    table = make_table(grid, tmp_path)
    written = csv.DictReader(io.StringIO(runs_csv(table)))
    lines = {line["row"]: line for line in written}
    columns = ("engine", "zero_stage", "engine_shard")
    assert [lines["Uniform"][column] for column in columns] == ["deepspeed", "3", ""]
    assert [lines["AlphaDecay"][column] for column in columns] == ["fsdp2", "", "1"]
    runs = {run["row"]: run for run in json.loads(as_json(table))["runs"]}
    assert runs["AlphaDecay"]["engine"] == "fsdp2" and runs["AlphaDecay"]["zero_stage"] is None
