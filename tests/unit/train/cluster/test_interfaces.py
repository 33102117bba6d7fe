"""train.cluster.interfaces: the interface that leads to a host."""

from __future__ import annotations

import psutil
import pytest

from train.cluster import interfaces
from train.errors import UserError


def test_the_loopback_leads_to_this_machine() -> None:
    assert interfaces.way_to("127.0.0.1") == ("lo", "127.0.0.1")


def test_an_address_of_this_machine_is_found_on_its_interface() -> None:
    for name, addresses in psutil.net_if_addrs().items():
        for found in addresses:
            if found.family.name == "AF_INET":
                assert interfaces.way_to(found.address) == (name, found.address)


def test_a_name_that_leads_to_the_loopback_takes_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def source(host: str) -> str:
        asked.append(host)
        return "127.0.0.1" if host == "node-1" else "10.1.2.3"

    class Address:
        address = "10.1.2.3"

    monkeypatch.setattr(interfaces, "_source", source)
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"lo": [], "ib0": [Address()]})
    assert interfaces.way_to("node-1") == ("ib0", "10.1.2.3") and asked == ["node-1", "192.0.2.1"]


def test_an_unknown_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="does not know the host"):
        interfaces.way_to("no-such-host.invalid")
    assert interfaces.main(["no-such-host.invalid"]) == 2 and "error: " in capsys.readouterr().err


def test_the_command_prints_two_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert interfaces.main(["127.0.0.1"]) == 0
    assert capsys.readouterr().out == "lo 127.0.0.1\n"
