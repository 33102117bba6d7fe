"""The page, to the letter, against figures worked out by hand."""

from tests.unit.train.experiments.tables.making import fill, finish, make_grid, runs_of
from train.experiments.tables.markdown import markdown
from train.experiments.tables.table import make_table
from train.loop.run_status import write_state

# AlphaDecay - Uniform in `wide`: -1, -2, -2: mean -5/3, sd 1/√3, the mean's 1/3, t of two degrees
# 4.3027. As published -1 each time.
FIGURES = {
    ("Uniform", "wide"): {1: (31.0, 29.0), 2: (34.0, 32.0), 3: (33.0, 31.0)},
    ("AWD", "wide"): {2: (33.5, 31.0)},
    ("AlphaDecay", "wide"): {1: (30.0, 28.0), 2: (32.0, 31.0), 3: (31.0, 30.0)},
    ("AlphaDecay", "deep"): {1: (1030.0, 928.0), 2: (1032.0, 931.0), 3: (1031.0, 930.0)},
}
PAPER = {("Uniform", "wide"): 29.75, ("AlphaDecay", "wide"): 28.5}


def page_of(grid, root):
    return markdown(make_table(grid, root))


def part(page, heading):
    """The lines below a heading that are not empty."""
    after = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line for line in after.splitlines() if line]


def toy(tmp_path, **more):
    grid = make_grid(
        {"wide": {}, "deep": {"optim.lr": "1e-3"}},
        ["Uniform", "AWD", "AlphaDecay"],
        paper=PAPER,
        **more,
    )
    fill(grid, tmp_path, FIGURES)
    return grid


def test_methods_by_columns(tmp_path):
    lines = page_of(toy(tmp_path, source="somebody's table"), tmp_path).splitlines()
    assert lines[:8] == [
        "# A toy",
        "",
        "|  | wide | deep |",
        "| --- | ---: | ---: |",
        "| Uniform | 32.67 ± 1.53 | – (0 of 3) |",
        "| AWD | 33.50 (1 of 3) | – (0 of 3) |",
        "| AlphaDecay | **31.00 ± 1.00** ↓ | 1,031.00 ± 1.00 |",
        "",
    ]
    assert lines[8].startswith(
        "Validation perplexity, the mean over tokens: mean ± standard deviation (n − 1) over 3 "
        "seeds. Bold: lowest"
    )
    assert (
        "↓ and ↑: the 95% interval of the paired difference to Uniform lies wholly below or above 0"
        in lines[8]
    )
    assert lines[8].endswith("In brackets: seeds that count of 3, where not all do.")


def test_every_figure_of_every_cell(tmp_path):
    lines = part(page_of(toy(tmp_path, source="somebody's table"), tmp_path), "Every cell")
    assert lines[:8] == [
        "| column | method | n | perplexity | − Uniform | as published | − Uniform | paper | as "
        "published − paper |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| wide | Uniform | 3 of 3 | 32.67 ± 1.53 | – | 30.67 ± 1.53 | – | 29.75 | +0.92 |",
        "| wide | AWD | 1 of 3 | 33.50 | −0.500 (one seed) | 31.00 | −1.000 (one seed) | – | – |",
        "| wide | AlphaDecay | 3 of 3 | 31.00 ± 1.00 | −1.667 [−3.101, −0.232] ↓ "
        "| 29.67 ± 1.53 | −1.000 [−1.000, −1.000] ↓ | 28.50 | +1.17 |",
        "| deep | Uniform | 0 of 3 | – | – | – | – | – | – |",
        "| deep | AWD | 0 of 3 | – | – | – | – | – | – |",
        "| deep | AlphaDecay | 3 of 3 | 1,031.00 ± 1.00 | – | 929.67 ± 1.53 | – | – | – |",
    ]
    assert lines[8].endswith(
        "so that it is too low. No difference where Uniform has no run that counts: deep."
    )


def test_a_grid_of_our_own_has_no_paper(tmp_path):
    page = page_of(toy(tmp_path), tmp_path)
    assert (
        part(page, "Every cell")[0]
        == "| column | method | n | perplexity | − Uniform | as published | − Uniform |"
    )
    assert "paper" not in page.lower()


def test_the_papers_set_up_stands_beside_what_differs(tmp_path):
    grid = toy(
        tmp_path, source="arXiv 2506.14562, a table", setup="1 B tokens of C4", recipe="llama_60m"
    )
    page = page_of(grid, tmp_path)
    lines = part(page, "What differs from the paper's set-up")
    assert "so that it is too low. The paper's figures are counted so." in page
    assert lines[0] == "Paper: arXiv 2506.14562, a table. Its set-up: 1 B tokens of C4."
    assert "- tokens: 1.31B (paper: 1.00B without fill)" in lines
    assert (
        "- precision: float32 (paper: bfloat16 throughout, no float32 masters (published code))"
        in lines
    )
    assert (
        "- rows: packed, no fill (paper: one document a row, cut or filled (published code))"
        in lines
    )
    assert not [line for line in lines if line.startswith("- data:")]  # C4, as the paper's


def test_another_source_is_named_and_not_compared(tmp_path):
    page = page_of(toy(tmp_path, source="somebody's table"), tmp_path)
    assert part(page, "The source's set-up") == [
        "Source: somebody's table. What it was is not stated."
    ]
    assert "What differs" not in page


def test_runs_that_are_not_counted_are_listed_with_the_reason(tmp_path):
    grid = make_grid({"wide": {}}, ["Uniform", "AWD", "AlphaDecay"], seeds=[1, 2])
    runs = {row: runs_of(grid, tmp_path, row, "wide") for row in grid.rows}
    finish(runs["Uniform"][1], 31.0)
    finish(runs["Uniform"][2], None)
    finish(runs["AWD"][1], 31.0, overrides={"optim.lr": "0.5"})
    runs["AWD"][2].folder.mkdir(parents=True)
    write_state(
        runs["AWD"][2].folder, "failed", step=3, steps=150, reason="disk\nfull " + "x" * 400
    )
    (tmp_path / "toy" / "wide-awd" / "seed-7").mkdir()
    lines = part(page_of(grid, tmp_path), "Runs that are not counted: 5 of 6")
    failed = lines.pop(2)
    assert (
        failed.startswith("  - wide-awd seed 2: failed at step 3 of 150: disk full xxx")
        and len(failed) < 350
        and failed.endswith("…")
    )
    assert lines == [
        "- never started: 2: wide-alphadecay seed 1, wide-alphadecay seed 2",
        "- failed: 1",
        "- diverged: 1",
        "  - wide-uniform seed 2: finished without a finite perplexity",
        "- made with other settings than the grid has now: 1",
        "  - wide-awd seed 1: optim.lr was 0.5, is 0.002",
        "- seeds with folders of their own that were not asked for (--seeds): 7",
    ]


def test_a_whole_table_lists_nothing(tmp_path):
    grid = make_grid({"wide": {}}, seeds=[1])
    fill(grid, tmp_path, {(row, "wide"): {1: (31.0, 29.0)} for row in grid.rows})
    page = page_of(grid, tmp_path)
    assert part(page, "Runs that are not counted: 0 of 2") == ["- none"]
    assert part(page, "What runs of one column do not have in common") == ["- none"]
    assert (
        "| Uniform | **31.00** |\n| AlphaDecay | **31.00** |" in page
        and "one seed, 1. Bold" in page
    )
