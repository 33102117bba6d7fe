"""train.cluster.preflight: which node is unlike the others, and whose links are bad."""

from __future__ import annotations

import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest

from tests.conftest import ROOT
from train.cluster.preflight.diagnose import judge, rate
from train.cluster.preflight.link_test import ALL, groups, links
from train.cluster.preflight.node_facts import (
    NodeFacts,
    inspect_node,
    missing_files,
    summary,
    unlike_most,
)


def node(host: str, **facts: object) -> NodeFacts:
    return NodeFacts(
        **{
            "host": host,
            "commit": "aaa",
            "sources": "s1",
            "versions": {"torch": "2.6"},
            "devices": ["H100"] * 8,
        }
        | facts
    )  # type: ignore[arg-type]


def test_like_nodes_have_nothing_wrong() -> None:
    assert unlike_most({0: node("a"), 1: node("b"), 2: node("c")}) == {0: [], 1: [], 2: []}


def test_the_one_that_differs_is_named_even_if_it_is_the_first() -> None:
    found = unlike_most({0: node("a", commit="bbb", sources="s2"), 1: node("b"), 2: node("c")})
    assert found == {0: ["commit bbb, sources s2; b has commit aaa, sources s1"], 1: [], 2: []}


def test_of_two_the_first_is_right() -> None:
    found = unlike_most(
        {0: node("a"), 1: node("b", commit="aaa+", versions={"torch": "2.7"}, devices=["H100"] * 7)}
    )
    assert found == {
        0: [],
        1: [
            "commit aaa+, sources s1; a has commit aaa, sources s1",
            "torch 2.7; a has torch 2.6",
            "7 × H100; a has 8 × H100",
        ],
    }


def test_a_package_that_only_some_have_is_told() -> None:
    found = unlike_most(
        {0: node("a"), 1: node("b"), 2: node("c", versions={"torch": "2.6", "deepspeed": "1"})}
    )
    assert found[2] == ["deepspeed 1; a has deepspeed None"]


def test_the_node_with_a_folder_of_its_own_is_the_one_apart() -> None:
    assert missing_files({0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 1, 2}}) == {}
    assert missing_files({0: {0}, 1: {1, 2}, 2: {1, 2}}) == {0: [1, 2]}
    assert missing_files({0: {0}, 1: {1}}) == {1: [0]}
    assert missing_files({}) == {}


def test_devices_in_words() -> None:
    assert summary([]) == "no GPU" and summary(["A100", "H100", "A100"]) == "2 × A100 and 1 × H100"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small project under git."""
    folder = tmp_path / "checkout"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "a.py").write_text("1\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, timeout=120)
    return folder


def test_a_changed_file_shows_in_commit_and_sources(checkout: Path, tmp_path: Path) -> None:
    before = inspect_node(tmp_path, "one", 1, 0.0, root=checkout)
    (checkout / "train" / "a.py").write_text("2\n")
    after = inspect_node(tmp_path, "two", 1, 0.0, root=checkout)
    assert (
        len(before.commit) == 10
        and after.commit == before.commit + "+"
        and after.sources != before.sources
    )
    shutil.rmtree(checkout / ".git")
    assert inspect_node(tmp_path, "three", 1, 0.0, root=checkout).commit == ""


def test_it_leaves_a_file_for_the_others_and_knows_the_room(tmp_path: Path) -> None:
    facts = inspect_node(tmp_path / "new", "probe", 1, 0.0)
    assert (tmp_path / "new" / "probe").read_text() == facts.host
    assert facts.free_gb is not None and facts.free_gb > 0 and facts.problems == []
    assert facts.versions["torch"] and facts.versions["deepspeed"]
    assert "GB are free in" in inspect_node(tmp_path, "probe", 1, 1e9).problems[0]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert inspect_node(tmp_path / "file" / "runs", "probe", 1, 0.0).problems == [
        f"cannot write to {tmp_path}/file/runs: Not a directory"
    ]


def test_gpus_that_slurm_gave_and_torch_does_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "8")
    assert inspect_node(tmp_path, "probe", 8, 0.0).problems[0].startswith("SLURM gave it 8 GPUs")


def test_the_project_itself_has_sources(tmp_path: Path) -> None:
    assert (
        inspect_node(tmp_path, "probe", 1, 0.0, root=ROOT).sources
        != inspect_node(tmp_path, "probe", 1, 0.0, root=tmp_path).sources
    )


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 8, 9])
def test_links_are_a_ring_and_no_node_is_twice_in_a_round(nodes: int) -> None:
    rounds = links(nodes)
    assert all(len(set(chain(*pairs))) == 2 * len(pairs) for pairs in rounds)
    ring = {frozenset((i, (i + 1) % nodes)) for i in range(nodes)} if nodes > 1 else set()
    found = [frozenset(pair) for pairs in rounds for pair in pairs]
    assert set(found) == ring and len(found) == len(ring)


@pytest.mark.parametrize(("nodes", "ranks"), [(1, 1), (1, 4), (2, 1), (3, 2), (4, 2)])
def test_the_members_of_a_group_agree_on_it_and_on_the_order(nodes: int, ranks: int) -> None:
    each = {
        rank: groups(rank // ranks, rank % ranks, nodes, ranks) for rank in range(nodes * ranks)
    }
    for rank, mine in each.items():
        assert mine[-1] == (ALL, list(range(nodes * ranks)))
        for turn, (name, members) in enumerate(mine):
            assert rank in members or not members
            assert all(each[member][turn] == (name, members) for member in members)
    linked = {
        frozenset(members)
        for mine in each.values()
        for name, members in mine
        if name.startswith("link")
    }
    assert len(linked) == ranks * len(list(chain(*links(nodes))))


def ring(nodes: int, bad: dict[tuple[int, int], object]) -> dict[int, list[dict[str, object]]]:
    """Every node's one rank with its links at 10 ms, but for the bad ones."""
    found: dict[int, list[dict[str, object]]] = {index: [{}] for index in range(nodes)}
    for a, b in chain(*links(nodes)):
        for end in (a, b):
            found[end][0][f"link {a} {b} 0"] = bad.get((a, b), 0.01)
    return found


NAMES = ["a", "b", "c", "d"]


def test_a_node_whose_links_all_fail_is_the_bad_one() -> None:
    found = judge(ring(4, {(1, 2): "timed out", (2, 3): "timed out"}), NAMES, 0.2)
    assert found == {
        0: [],
        1: [],
        2: ["no good traffic with b: timed out", "no good traffic with d: timed out"],
        3: [],
    }


def test_a_slow_node_is_the_bad_one() -> None:
    found = judge(ring(4, {(3, 0): 0.2, (0, 1): 0.2}), NAMES, 0.2)
    words = "200 ms, good ones take 10"
    assert found == {
        0: [f"no good traffic with b: {words}", f"no good traffic with d: {words}"],
        1: [],
        2: [],
        3: [],
    }
    assert not any(judge(ring(4, {(3, 0): 0.2, (0, 1): 0.2}), NAMES, 0.0).values())


def test_one_link_alone_names_both_ends() -> None:
    found = judge(ring(4, {(1, 2): "refused"}), NAMES, 0.2)
    assert found == {
        0: [],
        1: ["no good traffic with c: refused"],
        2: ["no good traffic with b: refused"],
        3: [],
    }
    assert judge(ring(2, {(0, 1): "refused"}), NAMES, 0.2) == {
        0: ["no good traffic with b: refused"],
        1: ["no good traffic with a: refused"],
    }


def test_ranks_that_die_or_hang_and_nodes_broken_inside_are_named() -> None:
    found = judge(
        {0: [{"node 0": "no P2P"}, {"node 0": "no P2P"}], 1: [{}, {"end": "hangs"}]}, NAMES, 0.2
    )
    assert found == {
        0: ["its own ranks cannot talk to one another: no P2P"],
        1: ["rank 1 of the node hangs"],
    }


def test_the_rate_is_that_of_the_slowest_rank() -> None:
    assert (
        rate({0: [{ALL: 0.01}], 1: [{ALL: 0.02}]}, 64)
        == "all-reduce of 64 MB over 2 ranks: 20.0 ms, 3.20 GB/s for each"
    )
    assert rate({0: [{}]}, 64) == ""
