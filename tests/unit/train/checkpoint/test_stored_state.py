"""Weights out of the pieces of flattened groups, with this program's errors; every layout of an
engine's own is under tests/distributed.
"""

import pytest
import torch

from train.checkpoint.stored_state import open_masters, read_masters
from train.errors import UserError

FLAT = torch.arange(20.0)
SHAPES = {"a": torch.Size([3, 2]), "b": torch.Size([5]), "c": torch.Size([2, 2])}


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / name)


def write_partitioned(folder, ranks, **more):
    """Write ZeRO-1's files: a group of 15 elements and one of padding, in equal shares."""
    write(
        folder,
        "mp_rank_00_model_states.pt",
        {"module": {}, "param_shapes": [SHAPES], "shared_params": {"d": "a"}},
    )
    shares = FLAT[:16].chunk(ranks)
    for rank, share in enumerate(shares):
        optimizer = {"single_partition_of_fp32_groups": [share.clone()], **more}
        write(
            folder,
            f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
            {"optimizer_state_dict": optimizer},
        )


@pytest.mark.parametrize("ranks", [1, 2, 4, 16])
def test_partitions_of_any_number_of_ranks_give_the_same_weights(tmp_path, ranks):
    write_partitioned(tmp_path / "state", ranks, partition_count=[ranks])
    weights = read_masters(tmp_path / "state")
    assert torch.equal(weights["a"], FLAT[:6].view(3, 2))
    assert torch.equal(weights["b"], FLAT[6:11])
    assert torch.equal(weights["c"], FLAT[11:15].view(2, 2))
    assert torch.equal(weights["d"], weights["a"])


def test_padding_between_weights_is_passed_over(tmp_path):
    write_partitioned(tmp_path / "state", 2, param_alignment_paddings=[[1, 0, 0]])
    weights = read_masters(tmp_path / "state")
    assert torch.equal(weights["a"], FLAT[:6].view(3, 2))
    assert torch.equal(weights["b"], FLAT[7:12])


def test_a_missing_rank_is_named(tmp_path):
    write_partitioned(tmp_path / "state", 2, partition_count=[4])
    with pytest.raises(UserError, match="written by 4 ranks and holds 2"):
        open_masters(tmp_path / "state")


def test_other_layouts_are_refused(tmp_path):
    (tmp_path / "state").mkdir()
    with pytest.raises(UserError, match="no weights that this version can read"):
        open_masters(tmp_path / "state")
    write(
        tmp_path / "state",
        "zero_pp_rank_0_mp_rank_00_optim_states.pt",
        {"optimizer_state_dict": {}},
    )
    with pytest.raises(UserError, match="no weights that this version can read"):
        open_masters(tmp_path / "state")
    write(tmp_path / "state", "mp_rank_00_model_states.pt", {"param_shapes": []})
    with pytest.raises(UserError, match="hold no single_partition_of_fp32_groups"):
        open_masters(tmp_path / "state")
