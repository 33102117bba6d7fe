"""The callbacks take AlphaDecay's options, and refuse what it refuses in the same words."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any

import pytest

from alphadecay import AlphaDecay
from tests.integrations import loops

pytestmark = pytest.mark.integrations
CALLBACKS = pytest.mark.parametrize(
    ("home", "package"),
    [("hf_transformers", "transformers"), ("lightning", "lightning.pytorch")],
)


def callback_of(home: str, package: str) -> Any:
    pytest.importorskip(package, reason="made by make integrations")
    return import_module(f"alphadecay.integrations.{home}").AlphaDecayCallback


@CALLBACKS
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"intervall": 4}, TypeError),
        ({"interval": 0}, ValueError),
        ({"tail": "hil"}, ValueError),
        ({"s1": 2.0, "s2": 1.0}, ValueError),
    ],
)
def test_what_alphadecay_refuses_a_callback_refuses(
    home: str, package: str, options: dict[str, Any], error: type[Exception]
) -> None:
    model = loops.Net()
    with pytest.raises(error) as refused:
        AlphaDecay(model, loops.stock(model), **options)
    with pytest.raises(error) as refused_too:
        callback_of(home, package)(**options)
    assert str(refused_too.value) == str(refused.value).removeprefix("AlphaDecay.__init__() ")


@CALLBACKS
def test_a_callback_shows_alphadecays_options(home: str, package: str) -> None:
    options = set(signature(AlphaDecay).parameters) - {"model", "optimizer"}
    assert set(signature(callback_of(home, package)).parameters) == options
