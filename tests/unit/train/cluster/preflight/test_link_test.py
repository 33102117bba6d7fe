"""The ranks that a node's test of its links starts, from a folder that is not the project's."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.distributed import TCPStore

from train.cluster.preflight.link_test import ALL, measure


def test_ranks_start_beside_a_train_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('the train.py of a user ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    [found] = measure("127.0.0.1", store.port, 0, 1, 1, 1, 20.0)
    assert "end" not in found, found
    assert isinstance(found[ALL], float)
