"""B-cos networks: residual networks whose predictions are linear in the query, with weights that depend on it.

Böhle, Singh, Fritz, Schiele: "B-cos Alignment for Inherently Interpretable CNNs and Vision Transformers" (TPAMI 2024).
Layers are those of the package ``bcos``, which is imported when a network is made. ``parity.explanations`` reads the
contributions of a query's numbers off such a network.
"""

import functools
import importlib
import math
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from parity.errors import ParityError

_STAGES = (3, 4)


class AddInverse(nn.Module):
    """Makes the 2 C channels (x, 1 - x) that B-cos layers take of C channels: (B, C, H, W) -> (B, 2 C, H, W).

    A colour is then the direction of a pixel, and black has a norm as white has.

    Args:
        mean, std: by which queries were scaled, a number for each channel: x is ``query * std + mean``, in [0, 1]. None
            where queries are x themselves.

    Attributes:
        contributions: what the gradient in the query is: by default that of this layer; where this is set, what the
            numbers of the query, their inverse included, contribute to what is differentiated.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        self.contributions = False
        for name, value in (("mean", mean), ("std", std)):
            shaped = None if value is None else torch.tensor(value).view(-1, 1, 1)
            self.register_buffer(name, shaped, persistent=False)

    def forward(self, queries: Tensor) -> Tensor:
        """Add the inverse: (B, C, H, W) -> (B, 2 C, H, W)."""
        values = queries if self.std is None else queries * self.std
        values = values if self.mean is None else values + self.mean
        channels = torch.cat([values, 1 - values], dim=1)
        if not self.contributions:
            return channels
        # Exactly 1, with the identity as its gradient: x w + (1 - x) v is then the gradient at a number x.
        one = 1 + (queries - queries.detach())
        return channels.detach() * torch.cat([one, one], dim=1)


class BcosResNet(nn.Module):
    """A B-cos ResNet: its prediction is W(x) (x, 1 - x) + bias, with weights W that depend on the query x.

    ==============================  ==================================================================
    ``blocks``, ``width``           B-cos-v2's
    ==============================  ==================================================================
    (3, 3, 3), 16                   ResNet-20 for CIFAR-10; ``max_out=2`` but in its form ``-nomaxout``
    (2, 2, 2, 2), 64, large         ResNet-18 for ImageNet
    (3, 4, 6, 3), 64, large, deep   ResNet-50 for ImageNet
    ==============================  ==================================================================

    Norms are those that B-cos-v2 calls ``bnu-linear``: batch norms that neither centre nor have a bias, so that nothing
    but the logit bias is added to what the query contributes.

    Args:
        query_shape: shape Q of a query, (C, H, W); the 2 C channels (x, 1 - x) are made inside.
        prediction_shape: shape P of a prediction, e.g. ``(10,)``.
        blocks: number of blocks in each of 3 or 4 stages.
        width: channels of the first stage; each further one has twice as many.
        max_out: units of which each output takes the largest.
        bottleneck: blocks of three convolutions, as from ResNet-50 on.
        large_images: a stem of 7 x 7 that halves the image, and pooling that halves it again.
        mean, std: by which the queries were scaled; see ``AddInverse``.
        logit_bias: added to all logits; by default -log(classes - 1), as if each class had probability 1 / classes.
        temperature: the logits are divided by it before the bias is added.

    Raises:
        ParityError: bcos is not installed, the queries are not images, or the stages cannot be made.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        blocks: Sequence[int] = (3, 3, 3),
        width: int = 16,
        max_out: int = 1,
        bottleneck: bool = False,
        large_images: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        logit_bias: float | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if len(query_shape) != 3:
            raise ParityError(f"BcosResNet takes images (C, H, W), not queries of shape {tuple(query_shape)}.")
        if len(blocks) not in _STAGES or min(blocks) < 1 or width < 1:
            raise ParityError(
                f"BcosResNet has 3 or 4 stages of 1 block or more, and a width of 1 or more, not blocks = "
                f"{tuple(blocks)} and width = {width}."
            )
        resnet, modules = _import_bcos("bcos.models.resnet"), _import_bcos("bcos.modules")
        layers = _import_bcos("parity.models.bcos_layers")
        classes = math.prod(prediction_shape)
        self.add_inverse = AddInverse(mean, std)
        self.network = resnet.BcosResNet(
            resnet.Bottleneck if bottleneck else resnet.BasicBlock,
            list(blocks),
            num_classes=classes,
            in_chans=2 * query_shape[0],
            norm_layer=modules.norms.NoBias(layers.FastBatchNormUncentered2d),
            conv_layer=functools.partial(layers.FastBcosConv2d, max_out=max_out),
            inplanes=width,
            small_inputs=not large_images,
            logit_bias=1.0,  # replaced below: the own one is log(0) for one class
        )
        bias = -math.log(max(classes - 1, 1)) if logit_bias is None else logit_bias
        self.network.logit_layer = modules.LogitLayer(temperature, bias)
        self.prediction_shape = tuple(prediction_shape)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as ResNet

    @property
    def logit_bias(self) -> float:
        """What is added to every logit beside what the query contributes."""
        return float(self.network.logit_layer.logit_bias)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        return self.network(self.add_inverse(queries)).view(queries.shape[0], *self.prediction_shape)


def _import_bcos(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ParityError("B-cos networks need bcos and einops: pip install 'parity[explain]'.") from error
