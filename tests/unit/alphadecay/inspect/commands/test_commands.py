"""The commands from the command line: what they print, write and return."""

from __future__ import annotations

import csv
import html
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import alphadecay
from alphadecay.cli import main
from alphadecay.inspect.commands import COMMANDS
from tests.unit.alphadecay.inspect.tiny import TINY

UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    TINY["llama"]().save_pretrained(made)
    return made


def test_the_list_of_commands_is_quick(root: Path) -> None:
    """It imports neither torch nor what draws: seconds on a slow disk."""
    code = (
        "import sys; from alphadecay.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'numpy', 'plotly', 'rich'} & set(sys.modules)))"
    )
    for words in ([], *([name] for name in COMMANDS)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, "--help"],
            cwd=root,
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, (words, done.stderr)
        assert "usage: alphadecay" in done.stdout
        assert all(len(line) <= 80 for line in done.stdout.splitlines()), words


def shown(page: Path) -> str:
    """Return a page without the places where names may be broken."""
    return html.unescape(page.read_text().replace("<wbr>", ""))


def test_analyze_prints_writes_and_cleans_up(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "html")}
    options = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    assert main(["analyze", str(folder), "--randomize", *options]) == 0
    told = capsys.readouterr()
    table = alphadecay.analyze(folder, randomize=True)
    held = json.loads(files["json"].read_text())
    assert held["weights"] == [row.as_dict() for row in table]
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert [float(row["alpha"]) for row in rows] == [row.alpha for row in table]
    assert all(f"{row.name} " in told.out and f"{row.alpha:.3f}" in told.out for row in table)
    assert told.err == ""
    page = shown(files["html"])
    assert all(row.name in page for row in table) and "default-src 'none'" in page
    assert all(f'id="{name}"' in page for name in ("map-alpha", "map-decay", "esd-0", "esd-2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.html", "out.json"]


def test_analyze_writes_json_alone_to_the_screen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(folder), "--json", "--weight-decay", "0.4"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["settings"]["weight_decay"] == 0.4
    assert max(row["decay"] for row in held["weights"]) == pytest.approx(2.0)


def test_something_set_aside_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = {"q_proj.weight": torch.randn(20, 20), "k_proj.weight": torch.full((9, 9), torch.nan)}
    torch.save(tensors, tmp_path / "x.pt")
    assert main(["analyze", str(tmp_path / "x.pt")]) == 1
    assert "set aside:\n  k_proj.weight: it is not_finite" in capsys.readouterr().out
    assert main(["analyze", str(tmp_path / "x.pt"), "--json"]) == 1
    assert "1 set aside" in capsys.readouterr().err
    torch.save({"q_proj.qweight": torch.ones(9, 9, dtype=torch.int32)}, tmp_path / "x.pt")
    assert main(["analyze", str(tmp_path / "x.pt"), "--html", "page.html"]) == 1
    assert "q_proj.qweight: it is quantised" in capsys.readouterr().out
    assert "q_proj.qweight" in shown(Path("page.html"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["analyze", "missing"], "error: missing: no such file or folder; give a Hugging Face"),
        (["analyze", "FOLDER", "--s1", "9"], "error: s1 and s2 are 9.0 and 5.0"),
        (["analyze", "FOLDER", "--json", "/nowhere/x"], "error: the journal /nowhere/x.journal"),
        (["analyze", "FOLDER", "--csv", "/nowhere/x"], "error: /nowhere/x cannot be written"),
        (["analyze", "FOLDER", "--json", "--csv"], "error: --json and --csv both go to the screen"),
        (["explain", "FOLDER", "q_proj"], "error: 'q_proj' matches 2 weights"),
        (["explain", "FOLDER", "zzz"], "error: 'zzz' matches no weight; there are"),
        (["diff", "FOLDER", "missing"], "error: missing: no such file or folder"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    words: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder) if word == "FOLDER" else word for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(told) and said.err.count("\n") == 1


def test_explain_ends_in_the_decay_that_the_table_has(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["explain", str(folder), "1.mlp.up", "--html", str(page)]) == 0
    told = capsys.readouterr().out
    row = alphadecay.analyze(folder)[UP]
    words = " ".join(told.split())
    assert f"{row.alpha:.4f}" in words and f"the base decay, 0.1: {row.decay:.4g}." in words
    assert f"= {row.ratio:.4f} times" in words
    assert "+ power law" in told and all(len(line) <= 80 for line in told.splitlines())
    assert UP in shown(page)


def test_explain_alone_measures_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = note_what_is_read(monkeypatch)
    assert main(["explain", str(folder), UP, "--alone"]) == 0
    assert read == [UP] and "Decay." not in capsys.readouterr().out


def test_explain_measures_every_weight_once_and_one_of_a_journal_again(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = note_what_is_read(monkeypatch)
    assert main(["explain", str(folder), UP, "--journal", "j"]) == 0
    assert len(read) == len(set(read)) == 14
    first = capsys.readouterr().out
    read.clear()
    assert main(["explain", str(folder), UP, "--journal", "j"]) == 0
    assert read == [UP] and capsys.readouterr().out == first


def note_what_is_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of each tensor is added that is read from now on."""
    from alphadecay.inspect.sources import StoredTensor

    read: list[str] = []
    true_read = StoredTensor.read

    def noted(tensor: StoredTensor, elements: tuple[int, int] | None = None) -> torch.Tensor:
        read.append(tensor.name)
        return true_read(tensor, elements)

    monkeypatch.setattr(StoredTensor, "read", noted)
    return read


def test_a_name_of_a_shell_pattern_is_set_aside(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"q_proj[0].weight": torch.randn(9, 9), "v_proj.weight": torch.randn(9, 9)}, "x.pt")
    assert main(["analyze", "x.pt"]) == 1
    assert "its name holds one of * ? [ ]" in " ".join(capsys.readouterr().out.split())


def test_explain_says_why_there_is_no_alpha(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"q_proj.weight": torch.randn(4, 9), "v_proj.weight": torch.randn(20, 20)}, "x.pt")
    assert main(["explain", "x.pt", "q_proj"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "There is no alpha: the weight is too_small" in words
    assert "It keeps the base decay, 0.1" in words


def test_explain_says_why_a_weight_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = torch.ones(8, 12, dtype=torch.int8)
    torch.save({"q_proj.weight": codes, "o_proj.weight": torch.randn(8, 12)}, tmp_path / "x.pt")
    assert main(["explain", str(tmp_path / "x.pt"), "q_proj"]) == 2
    assert "q_proj.weight is set aside: it is quantised" in capsys.readouterr().err


def test_explain_of_a_broken_weight_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"q_proj.weight": torch.full((9, 9), torch.nan)}, "x.pt")
    assert main(["explain", "x.pt", "q_proj"]) == 2
    assert "error: q_proj.weight has no spectrum: it is not_finite" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_diff_prints_and_writes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = TINY["llama"]()
    model.get_parameter(UP).data += torch.randn(80, 32) * torch.rand(32).pow(4) * 0.1
    model.save_pretrained(tmp_path / "other")
    files = ["--json", "out.json", "--html", "out.html"]
    assert main(["diff", str(folder), "other", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith(UP) and "########" in lines[3]
    held = json.loads(Path("out.json").read_text())
    assert held["changes"][0]["name"] == UP and held["changes"][0]["delta"] != 0
    assert UP in shown(Path("out.html"))


def test_a_reader_that_leaves_is_no_fault(folder: Path, root: Path) -> None:
    command = f"{sys.executable} -m alphadecay.cli analyze {folder} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=root,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.stderr == "" and done.returncode in (0, 141)
