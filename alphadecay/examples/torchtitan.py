"""AlphaDecay in torchtitan's optimizer container: python -m alphadecay.examples.torchtitan."""

from __future__ import annotations

from torchtitan.components.optimizer import ParamGroupConfig

from alphadecay.examples.setting import STEPS, Net, batch, show
from alphadecay.integrations.torchtitan import AlphaDecayOptimizersContainer  # 1.


def main() -> None:
    """Trains for a few seconds; torchtitan's own trainer takes the same `config`."""
    adamw = ParamGroupConfig(
        pattern=".*",
        optimizer_name="AdamW",
        optimizer_kwargs={"lr": 3e-3, "weight_decay": 0.1},
    )
    config = AlphaDecayOptimizersContainer.Config(
        param_groups=[adamw],
        implementation="foreach",
        alphadecay={"interval": 20},  # 2. AlphaDecay's own options
    )
    model = Net()
    optimizers = config.build(model_parts=[model])
    for step in range(STEPS):
        loss = model(**batch(step))["loss"]
        loss.backward()
        optimizers.step()  # 3. decays and refreshes by itself; its state_dict() holds the rest
        optimizers.zero_grad()
    assert optimizers.decay is not None
    show(loss.item(), optimizers.decay)


if __name__ == "__main__":
    main()
