"""Which version of the program ran."""

import subprocess

from train.system.provenance import commit_of, own_provenance, source_hash


def git(folder, *command):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *command],
        cwd=folder,
        check=True,
        timeout=120,
    )


def test_a_checkout_has_a_commit_and_a_folder_within_it_none(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.py").write_text("1\n")
    assert commit_of(tmp_path) == ""
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    assert len(commit_of(tmp_path)) == 10 and commit_of(tmp_path / "train") == ""
    before = source_hash(tmp_path)
    (tmp_path / "train" / "a.py").write_text("2\n")
    assert commit_of(tmp_path).endswith("+") and source_hash(tmp_path) != before


def test_its_own_are_asked_for_once():
    assert own_provenance() is own_provenance() and len(own_provenance()["sources"]) == 10
