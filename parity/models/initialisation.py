"""How parity models start: objects that a config passes as ``parity_init``."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class NormalLinear:
    """Draws the weights of all linear layers from N(0, std^2) and sets their biases to 0, as the original does."""

    std: float = 0.01

    def __call__(self, network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
