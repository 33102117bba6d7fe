"""`alphadecay.analyze` against AlphaDecay itself, against weightwatcher and against numpy."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import alphadecay
from alphadecay import AlphaDecay
from alphadecay.inspect import analyze
from alphadecay.inspect.analysis import side_by_side
from alphadecay.inspect.analysis.rows import Analysis, Row
from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources import source as sources
from tests.unit.alphadecay.inspect.deepspeed_files import WEIGHTS, write_zero1
from tests.unit.alphadecay.inspect.tiny import TINY


def decay_of(model: nn.Module, **choices: Any) -> AlphaDecay:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.2)
    return AlphaDecay(model, optimizer, **choices)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_oss", "bert"])
def test_alphas_and_decays_are_alphadecays_own(name: str) -> None:
    model = TINY[name]()
    table = alphadecay.analyze(model, weight_decay=0.2)
    decay = decay_of(model)
    assert {row.name: row.alpha for row in table} == pytest.approx(decay.alphas, nan_ok=True)
    assert {row.name: row.decay for row in table} == decay.weight_decays
    statuses = {row.name: row.status for row in table if row.status != "ok"}
    assert statuses == decay.statuses


@pytest.mark.parametrize(
    "choices",
    [{"s1": 0.5, "s2": 2.0}, {"assign": "sqrt"}, {"tail": "goodness_of_fit"}],
    ids=str,
)
def test_choices_are_alphadecays(choices: dict[str, Any]) -> None:
    model = TINY["llama"]()
    decay = decay_of(model, **choices)
    table = alphadecay.analyze(model, weight_decay=0.2, **choices)
    assert {row.name: row.alpha for row in table} == decay.alphas
    assert {row.name: row.decay for row in table} == decay.weight_decays


def test_scores_are_numpys() -> None:
    weight = np.random.default_rng(0).standard_normal((40, 60))
    model = nn.Linear(60, 40).double()
    model.weight.data = torch.from_numpy(weight)
    [row] = alphadecay.analyze(model)
    values = np.linalg.svd(weight, compute_uv=False) ** 2
    # float32 eigenvalues of a Gram matrix: a few units of its seventh digit
    close = {"rel": 1e-5}
    assert row.spectral_norm == pytest.approx(math.sqrt(values[0]), **close)
    assert row.frobenius_norm == pytest.approx(np.linalg.norm(weight), **close)
    assert row.stable_rank == pytest.approx(values.sum() / values[0], **close)
    assert row.alpha_hat == pytest.approx(row.alpha * math.log10(values[0]), **close)
    assert (row.shape, row.parameters, row.eigenvalue_count) == ((40, 60), 2400, 40)
    assert row.tail_count == 20 and row.decay == 0.1 and row.status == "ok"


def test_alpha_is_weightwatchers_where_it_searches_the_same_cut_off() -> None:
    """weightwatcher searches the cut-off of least distance, as tail goodness_of_fit does; for fewer
    than 200 eigenvalues or so it corrects alpha for bias, which is another definition. Its hill
    tail does not exist, so that the default here is not compared.
    """
    weightwatcher = pytest.importorskip("weightwatcher")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 400, bias=False), nn.Linear(400, 260, bias=False))
    for layer in model:
        layer.weight.data *= torch.rand(layer.weight.shape[1]).pow(4) + 0.02  # type: ignore[operator]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = weightwatcher.WeightWatcher(model=model).analyze(min_evals=10)
    table = alphadecay.analyze(model, tail="goodness_of_fit")
    assert [row.alpha for row in table] == pytest.approx(list(theirs["alpha"]), rel=1e-3)
    assert [row.ks_distance for row in table] == pytest.approx(list(theirs["D"]), rel=1e-2)
    assert [row.stable_rank for row in table] == pytest.approx(
        list(theirs["stable_rank"]), rel=1e-4
    )
    logs = [2 * math.log10(row.spectral_norm) for row in table]
    assert logs == pytest.approx(list(theirs["log_spectral_norm"]), rel=1e-4)
    assert [row.alpha_hat for row in table] == pytest.approx(
        list(theirs["alpha_weighted"]), rel=2e-3
    )


def rows_of(table: Analysis) -> dict[str, dict[str, Any]]:
    return {row.name: row.as_dict() for row in table}


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_oss", "bert", "resnet"])
@pytest.mark.parametrize("form", ["folder", "shards", "bin", "dcp"])
def test_a_stored_model_gives_the_models_table(name: str, form: str, tmp_path: Path) -> None:
    model = TINY[name]()
    path = save(model, form, tmp_path)
    assert rows_of(alphadecay.analyze(path)) == rows_of(alphadecay.analyze(model))


def save(model: Any, form: str, folder: Path) -> Path:
    if form == "dcp":
        import torch.distributed.checkpoint as dcp

        # what it saves twice, it stores twice: a tied head is left out
        ties = getattr(model, "all_tied_weights_keys", None) or {}
        state = {f"model.{k}": v for k, v in model.state_dict().items() if k not in ties}
        dcp.save(state, checkpoint_id=folder / "dcp", no_dist=True)
        return folder / "dcp"
    if form == "bin":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        model.config.save_pretrained(folder)
        return folder
    model.save_pretrained(folder, max_shard_size="20KB" if form == "shards" else "1GB")
    return folder


def test_deepspeeds_files_give_the_weights_table(tmp_path: Path) -> None:
    weights = {name: torch.randn(w.shape[0] * 4, 16) for name, w in WEIGHTS.items()}
    write_zero1(tmp_path / "zero", ranks=3, weights=weights)
    torch.save(weights, tmp_path / "x.pt")
    table = alphadecay.analyze(tmp_path / "zero")
    assert rows_of(table) == rows_of(alphadecay.analyze(tmp_path / "x.pt"))
    assert len(table) == 2


def test_the_whole_and_what_is_left_out() -> None:
    model = TINY["llama"]()
    table = alphadecay.analyze(model)
    alphas = [row.alpha for row in table]
    assert table.quality["mean_alpha"] == pytest.approx(sum(alphas) / len(alphas))
    assert table.left_out["lm_head.weight"] == "it is the output head"
    assert Counter(table.left_out.values())["it is a gain or a bias"] == 5
    assert table["model.layers.1.mlp.up_proj.weight"].type == "up"
    assert not table.set_aside


def test_what_is_outside_2_to_6_is_named_the_farthest_first() -> None:
    model = nn.Sequential(*(nn.Linear(32, 32, bias=False) for _ in range(3)))
    for layer, power in zip(model, (0.2, 1.0, 8.0), strict=True):
        values = torch.arange(1, 33.0).pow(power)
        layer.weight.data = torch.linalg.qr(torch.randn(32, 32))[0] * values
    table = alphadecay.analyze(model)
    outside = table.outside
    assert [row.name for row in outside] == ["0.weight", "2.weight"]
    assert outside[0].alpha > 6 and outside[1].alpha < 2


def test_broken_tensors_are_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    model = TINY["llama"]()
    whole = rows_of(alphadecay.analyze(model))
    broken = "model.layers.0.mlp.up_proj.weight"
    model.get_parameter(broken).data[3, 4] = math.nan
    model.save_pretrained(tmp_path)
    table = alphadecay.analyze(tmp_path)
    assert set(table.set_aside) == {broken} and "it is not_finite" in table.set_aside[broken]
    assert {row.name: row.alpha for row in table} == {
        name: row["alpha"] for name, row in whole.items() if name != broken
    }


def test_weights_without_an_alpha_are_rows_with_a_status() -> None:
    model = nn.Sequential(nn.Linear(4, 40), nn.Linear(40, 32), nn.Linear(32, 16))
    model[1].weight.data.zero_()
    table = alphadecay.analyze(model, weight_decay=0.3)
    assert [row.status for row in table] == ["too_small", "zero", "ok"]
    assert [row.decay for row in table] == [0.3, 0.3, 0.3]
    assert not table.set_aside


def test_8_bit_floats_are_measured(tmp_path: Path) -> None:
    weight = torch.randn(32, 48).to(torch.float8_e4m3fn)
    torch.save({"q_proj.weight": weight}, tmp_path / "x.pt")
    torch.save({"q_proj.weight": weight.float()}, tmp_path / "y.pt")
    [row] = alphadecay.analyze(tmp_path / "x.pt", randomize=True)
    [wide] = alphadecay.analyze(tmp_path / "y.pt", randomize=True)
    assert row.alpha == pytest.approx(alphadecay.pl_alpha_hill(weight.float()))
    assert (row.beyond_shuffled, row.traps) == (wide.beyond_shuffled, wide.traps)


class Cut(Exception):
    """The analysis is cut."""


def test_a_cut_analysis_goes_on_and_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TINY["llama"]().save_pretrained(tmp_path / "model")
    read: list[str] = []
    limit = [5]
    true_read = sources.StoredTensor.read

    def counted(tensor: Any, elements: Any = None) -> Any:
        if len(read) == limit[0]:
            raise Cut
        read.append(tensor.name)
        return true_read(tensor, elements)

    monkeypatch.setattr(sources.StoredTensor, "read", counted)
    arguments = {"randomize": True, "journal": tmp_path / "journal"}
    with pytest.raises(Cut):
        alphadecay.analyze(tmp_path / "model", **arguments)
    with (tmp_path / "journal").open("a") as file:
        file.write('{"key": "of a line that was c')
    limit[0] = 10**6
    table = alphadecay.analyze(tmp_path / "model", **arguments)
    assert len(read) == len(set(read)) == 14
    again = alphadecay.analyze(tmp_path / "model", **arguments)
    assert len(read) == 14 and rows_of(again) == rows_of(table)
    assert rows_of(table) == rows_of(alphadecay.analyze(tmp_path / "model", randomize=True))


def test_a_journal_of_other_files_or_choices_does_not_count(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    torch.save({"q_proj.weight": torch.randn(32, 32)}, tmp_path / "x.pt")
    [before] = alphadecay.analyze(tmp_path / "x.pt", journal=journal)
    [other] = alphadecay.analyze(tmp_path / "x.pt", journal=journal, tail="goodness_of_fit")
    assert other.alpha != before.alpha
    torch.save({"q_proj.weight": torch.randn(48, 32)}, tmp_path / "x.pt")
    [after] = alphadecay.analyze(tmp_path / "x.pt", journal=journal)
    assert after.shape == (48, 32)
    # the decays are not part of what is kept
    [decayed] = alphadecay.analyze(tmp_path / "x.pt", journal=journal, weight_decay=0.7)
    assert (decayed.alpha, decayed.decay) == (after.alpha, 0.7)
    assert len(journal.read_text().splitlines()) == 3


def test_a_journal_tells_files_of_one_name_size_and_time_apart(tmp_path: Path) -> None:
    alphas = []
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "x.pt"
        torch.save({"q_proj.weight": torch.randn(32, 32)}, file)
        os.utime(file, (1, 1))  # as archives with fixed times leave it
        [row] = alphadecay.analyze(file, journal=tmp_path / "journal")
        [alone] = alphadecay.analyze(file)
        assert row.alpha == alone.alpha
        alphas.append(row.alpha)
    assert alphas[0] != alphas[1]


def test_what_is_kept_follows_the_choice_of_weights(tmp_path: Path) -> None:
    TINY["resnet"]().save_pretrained(tmp_path / "model")
    arguments = {"journal": tmp_path / "journal", "weight_decay": 0.2}
    first = alphadecay.analyze(tmp_path / "model", **arguments)
    assert {row.decay for row in first} == {0.2} and all(row.note for row in first)
    taken = alphadecay.analyze(tmp_path / "model", **arguments, include=["*convolution.weight"])
    assert len({row.decay for row in taken}) > 2 and not any(row.note for row in taken)


def test_a_row_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        alphadecay.analyze(nn.Linear(9, 9))["bias"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_cpus_table() -> None:
    model = TINY["llama"]()
    table = alphadecay.analyze(model, device="cuda", randomize=True)
    for here, there in zip(alphadecay.analyze(model, randomize=True), table, strict=True):
        # float32 eigenvalues of another solver
        assert there.alpha == pytest.approx(here.alpha, rel=1e-4)
        assert there.stable_rank == pytest.approx(here.stable_rank, rel=1e-4)
        assert (there.traps, there.beyond_shuffled) == (here.traps, here.beyond_shuffled)


@pytest.mark.parametrize(("room", "wanted"), [(1, 2), (1 << 30, 6)])
def test_matrices_in_memory_are_so_many_as_there_is_room_for(
    tmp_path: Path, room: int, wanted: int
) -> None:
    """Counted by the allocator of the tensors' own storage, through weak references: where there
    is room for one, another waits at the door.
    """
    import weakref

    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(6)))
    torch.save(model.state_dict(), tmp_path / "x.pt")
    alive: list[weakref.ref[torch.Tensor]] = []
    most = [0]
    true_read = sources.StoredTensor.read

    def counted(tensor: Any, elements: Any = None) -> Any:
        made = true_read(tensor, elements)
        alive.append(weakref.ref(made))
        most[0] = max(most[0], sum(one() is not None for one in alive))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources.StoredTensor, "read", counted)
        patch.setattr(side_by_side, "MOST_BYTES", room)
        patch.setattr(analyze, "workers_for", lambda device, largest: 2)
        assert len(alphadecay.analyze(tmp_path / "x.pt")) == 6
    assert len(alive) == 6 and most[0] <= wanted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"s1": 6.0}, "s1 and s2 are 6.0 and 5.0"),
        ({"assign": "cubic"}, "assign is 'cubic'"),
        ({"tail": "long"}, "tail is 'long'"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
        ({"include": ["nothing*"]}, "matches no trainable parameter"),
        ({"journal": "j"}, "a journal is for files"),
    ],
)
def test_choices_that_cannot_be_are_told(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InspectError, match=words):
        alphadecay.analyze(nn.Linear(16, 16), **arguments)


def test_a_row_survives_json() -> None:
    [row] = alphadecay.analyze(nn.Linear(16, 4))
    assert math.isnan(row.alpha)
    assert Row.from_dict(row.as_dict()).as_dict() == row.as_dict()
    assert math.isnan(Row.from_dict(row.as_dict()).alpha)


def test_pandas_has_a_row_a_weight() -> None:
    pytest.importorskip("pandas")
    table = alphadecay.analyze(TINY["llama"]())
    frame = table.to_pandas()
    assert list(frame["name"]) == [row.name for row in table]
    assert list(frame["alpha"]) == [row.alpha for row in table]
