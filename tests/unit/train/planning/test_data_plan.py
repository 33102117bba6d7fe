"""What the dry run says of a corpus."""

from __future__ import annotations

import pytest

from train.config import DataConfig, TrainConfig
from train.planning.data_plan import data_lines


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (DataConfig(), "from allenai/c4, the newest revision: data.revision pins one"),
        (DataConfig(revision="abc"), "from allenai/c4 at revision abc"),
        (DataConfig(repository="/"), "from the copy of allenai/c4 in /"),
    ],
)
def test_where_c4_comes_from(data, said):
    assert list(data_lines(TrainConfig(data=data), []))[1:] == [f"  {said}"]


def test_other_sources_are_not_on_the_hub():
    assert len(list(data_lines(TrainConfig(data=DataConfig(source="stdlib")), []))) == 1
