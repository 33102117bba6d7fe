"""The pages that say what was measured have it from the stored results."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import alphadecay
from tests.gpu.__main__ import RESULTS
from tests.gpu.pages import PAGES, fill_in, measured_mfu, origin, section, table_command
from tests.gpu.report import VERSION_0_1, read, stored, table
from train.planning import sizing
from train.planning.sizes import Size

SPEED = {
    "zero_stage": 1,
    "micro_batch": 512,
    "tokens_per_second": 990_000.0,
    "mfu": 0.3,
    "refresh_seconds": 0.5,
    "refresh_share": 0.01,
}
MADE_UP: dict[str, Any] = {
    "toy": False,
    "machine": {
        "device": "NVIDIA H100 80GB HBM3",
        "commit": "0123456789",
        "version": alphadecay.__version__,
        "date": "2127-01-01T00:00:00+00:00",
    },
    "parts": {
        "speed": {
            "60m alphadecay": SPEED,
            "60m uniform": {"tokens_per_second": 1e6, "mfu": 0.31},
            "350m alphadecay": SPEED | {"mfu": 0.45, "micro_batch": 128},
            "1b alphadecay": {"out_of_memory": "CUDA out of memory."},
        }
    },
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_is_stored(page: str, root: Path) -> None:
    text = (root / page).read_text()
    assert fill_in(text, stored(RESULTS)) == text, "python -m tests.gpu table --pages"


def changed_lines(page: str, root: Path, results: dict[str, Any]) -> list[str]:
    """Return the lines that a page would have after such a measurement, and has not now."""
    text = (root / page).read_text()
    before = text.splitlines()
    after = fill_in(text, [results, *stored(RESULTS)]).splitlines()
    return [line for line in after if line not in before]


def test_the_readme_tells_another_measurement_in_as_many_words(root: Path) -> None:
    (line,) = changed_lines("README.md", root, MADE_UP)
    assert ", one H100: 60M 30.0%, 350M 45.0% MFU<!--end-->." in line
    longest = copy.deepcopy(MADE_UP)
    longest["machine"]["version"] = "0.0.1"
    longest["parts"]["speed"]["1b alphadecay"] = SPEED
    (line,) = changed_lines("README.md", root, longest)
    assert "version 0.0.1, one H100: " in line and "MFU; later ones unmeasured<!--" in line
    page = fill_in((root / "README.md").read_text(), [longest])
    assert len(page.split()) <= 1200  # as a test of README.md demands


def test_sizing_takes_what_was_measured_where_the_run_is_the_lines(root: Path) -> None:
    first, second = changed_lines("docs/sizing.md", root, MADE_UP)
    assert first.startswith("| 60M | 1 | 80 GB | `ds_configs/zero1.json` | 512 |")
    hours = sizing.hours("60m", 1, "H100", 0.3)
    assert first.endswith(f"| 30% measured | {hours:.2g} |")
    assert second.startswith("| 350M | 1 | 80 GB |") and "| 45% measured |" in second


def test_other_sizes_than_the_lines_say_nothing_of_it() -> None:
    """Version 0.1 ran ZeRO-3 with 32 rows, which is no longer what is taken."""
    (run,) = measured_mfu([read(VERSION_0_1)])
    assert run == sizing.Run("60m", 1, "H200", Size("ds_configs/zero3.json", 32))
    fit = sizing.find_fit("60m", 1, "H200", 141e9)
    assert fit is not None and fit.size != run.size


def test_the_newest_measurement_of_a_run_counts() -> None:
    older = copy.deepcopy(MADE_UP)
    older["parts"]["speed"]["60m alphadecay"] = SPEED | {"mfu": 0.2}
    run = sizing.Run("60m", 1, "H100", Size("ds_configs/zero1.json", 512))
    assert measured_mfu([MADE_UP, older])[run] == 0.3
    assert measured_mfu([older, MADE_UP])[run] == 0.2


def test_a_table_is_of_the_newest_results_that_have_it(root: Path) -> None:
    lines = changed_lines("tests/gpu/README.md", root, MADE_UP)
    assert lines[0].endswith("(0123456789) on one NVIDIA H100 80GB HBM3:")
    assert lines[1].startswith("| 60M | ZeRO-1, 512 | 990,000 | 30.0% |")
    assert not any("host syncs" in line for line in lines)  # the older one's stands


def test_files_without_their_history_have_no_commit() -> None:
    machine = MADE_UP["machine"] | {"version": "0.9.dev0", "commit": ""}
    assert origin({"machine": machine}) == "Version 0.9 on one NVIDIA H100 80GB HBM3"


def write(folder: Path, results: dict[str, Any], page: str) -> tuple[Path, Path]:
    """Write results and a page."""
    results_file = folder / "results.json"
    results_file.write_text(json.dumps(results))
    page_file = folder / "page.md"
    page_file.write_text(page)
    return results_file, page_file


def test_a_marked_table_is_renewed_and_the_rest_kept(tmp_path: Path) -> None:
    text = "before\n<!-- gpu: speed -->\nold\n<!-- end -->\nafter <!--gpu:headline-->x<!--end-->.\n"
    results, page = write(tmp_path, MADE_UP, text)
    assert table_command([str(results), "--into", str(page)], tmp_path) == 0
    before, _, rest = page.read_text().partition("<!-- gpu: speed -->\n")
    made, _, after = rest.partition("\n<!-- end -->\n")
    assert before == "before\n" and after.startswith("after <!--gpu:headline-->version ")
    assert after.endswith("350M 45.0% MFU<!--end-->.\n")
    assert made.partition("\n\n")[2] == table(MADE_UP, "speed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plain", "nothing is marked"),
        ("<!-- gpu: stacks -->\n<!-- end -->", "no figures for 'stacks'"),
        ("<!-- gpu: nonsense -->\n<!-- end -->", "no figures for 'nonsense'"),
    ],
)
def test_a_page_that_cannot_be_renewed_is_kept(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, page = write(tmp_path, MADE_UP, text)
    assert table_command(["--into", str(page)], tmp_path) == 2  # the newest results
    assert message in capsys.readouterr().err
    assert page.read_text() == text


@pytest.mark.parametrize(("toy", "device"), [(True, "NVIDIA H200"), (False, "CPU")])
def test_a_rehearsal_stands_on_no_page(
    toy: bool, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "<!-- gpu: speed -->\n<!-- end -->\n"
    rehearsed = MADE_UP | {"toy": toy, "machine": MADE_UP["machine"] | {"device": device}}
    results, page = write(tmp_path, rehearsed, text)
    assert table_command([str(results), "--into", str(page)], tmp_path) == 2
    assert "a rehearsal's figures" in capsys.readouterr().err and page.read_text() == text


def test_results_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table_command([str(tmp_path / "none.json")], tmp_path) == 2
    assert "make gpu" in capsys.readouterr().err


def test_the_newest_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, MADE_UP, "")
    assert table_command([], tmp_path) == 0
    printed = capsys.readouterr().out
    assert table(MADE_UP, "speed") in printed
    assert "- speed 1b alphadecay: CUDA out of memory." in printed


def test_a_size_is_of_the_newest_that_has_it_beside_what_it_is_compared_with() -> None:
    newer = copy.deepcopy(MADE_UP)
    newer["machine"]["commit"] = "9876543210"
    newer["parts"] = {
        "speed": {"1b alphadecay": SPEED | {"tokens_per_second": 5e4}},
        "engines": {"1b fsdp2": SPEED, "60m fsdp2": SPEED | {"mfu": 0.11}},
    }
    older = copy.deepcopy(MADE_UP)
    older["parts"]["engines"] = {"60m fsdp2": SPEED | {"mfu": 0.22}}
    speed = section("speed", [newer, older])
    assert "(60M, 350M at 0123456789; 1B at 9876543210) on one" in speed
    lines = [line.split(" | ") for line in speed.splitlines() if line.startswith("| ")][1:]
    assert [line[0] for line in lines] == ["| 60M", "| 350M", "| 1B"]
    assert [line[4] for line in lines] == ["0.980", "–", "–"]  # nothing of another measurement
    engines = section("engines", [newer, older])
    assert "22.0%" in engines and "11.0%" not in engines  # the one beside DeepSpeed's


def test_another_card_or_release_is_not_put_beside_it() -> None:
    other = copy.deepcopy(MADE_UP)
    other["machine"]["device"] = "NVIDIA H200"
    other["parts"]["speed"] = {"1b alphadecay": SPEED}
    assert "| 60M |" not in section("speed", [other, MADE_UP])
