"""Find out that a model no longer holds the parameters that were chosen in it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from alphadecay.modules.weight import WeightModule, bare_name


class Places:
    """This keeps where a model holds the parameters of its modules.

    Args:
        model: the bare module.
        modules: those that were chosen in it.
    """

    def __init__(self, model: nn.Module, modules: Sequence[WeightModule]) -> None:
        self._model = model
        chosen = {id(module.parameter) for module in modules}
        self._places = [
            (bare_name(f"{path}.{leaf}" if path else leaf), layer, leaf, parameter)
            for path, layer in model.named_modules()
            for leaf, parameter in layer._parameters.items()
            if id(parameter) in chosen
        ]

    @property
    def are_trained(self) -> bool:
        """Say whether the model still trains one of the parameters, or has them as shards."""
        trained = {id(p) for p in self._model.parameters() if p.requires_grad}
        return any(
            id(parameter) in trained or hasattr(parameter, "placements")
            for _, _, _, parameter in self._places
        )

    def refuse_replaced(self) -> None:
        """Refuse a model in which another tensor has taken a parameter's place.

        FSDP2 does so for a while: a weight that is whole is no DTensor.

        Raises:
            RuntimeError: there is one; the message says how to go on.
        """
        for name, layer, leaf, parameter in self._places:
            held = layer._parameters.get(leaf)
            if held is parameter or (hasattr(parameter, "placements") and _is_whole(held)):
                continue
            raise RuntimeError(
                f"{name} was replaced in the model (load_state_dict(assign=True), tying, pruning "
                "and parametrising do so), and AlphaDecay still measures and decays the tensor "
                "that it was: call remove(), have the optimizer take the new one, and make "
                "AlphaDecay again"
            )


def _is_whole(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and not hasattr(parameter, "placements")
