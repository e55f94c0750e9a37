"""Attributions of predictions and of reconstructions: what they sum to, and where they lie."""

import importlib
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import (
    ConcatenationEncoder,
    Encoder,
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    PositionalDecoder,
    ReplicationDecoder,
    ReplicationEncoder,
)
from parity.errors import ParityError
from parity.explanations import color_image, explain, explain_reconstruction, heat_map, positive_shares
from parity.explanations.explainers import EXPLAINERS, _last_features
from parity.models import MLP, BcosResNet, PerCell, ResNet

pytest.importorskip("bcos", reason="the extra explain is not installed")
pytest.importorskip("captum", reason="the extra explain is not installed")

SHAPE = (3, 8, 8)
GENERAL = [name for name in EXPLAINERS if name != "Ours"]


def lively(network: nn.Module) -> nn.Module:
    """Return a network in 64 bits whose norms have statistics, as a trained one's have."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
    return network.double().eval()


def bcos(shape: tuple[int, ...] = SHAPE, outputs: tuple[int, ...] = (4,), **arguments: object) -> BcosResNet:
    torch.manual_seed(0)
    network = BcosResNet(shape, outputs, blocks=(1, 1, 1), width=4, **arguments)  # type: ignore[arg-type]
    lively(network)
    return network


def resnet(outputs: tuple[int, ...] = (4,)) -> nn.Module:
    torch.manual_seed(0)
    return lively(ResNet(SHAPE, outputs, blocks=(1, 1), widths=(4, 8)))


def images(*lead: int) -> Tensor:
    return torch.rand(*lead, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


SCALED = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


@pytest.mark.parametrize("arguments", [{}, dict(max_out=2), SCALED, dict(logit_bias=0.0, temperature=3.0)])
def test_contributions_sum_to_the_logit_less_its_bias_in_batches_as_one_by_one(arguments: dict[str, object]) -> None:
    network, queries, targets = bcos(**arguments), images(5), torch.tensor([0, 3, 2, 1, 1])
    contributions = explain(network, queries, targets)
    logits = network(queries).gather(1, targets[:, None])[:, 0].detach()
    assert contributions.shape == queries.shape
    assert torch.allclose(contributions.flatten(1).sum(1), logits - network.logit_bias, atol=1e-9, rtol=0)
    assert logits.std() > 1e-4
    alone = torch.cat([explain(network, queries[i : i + 1], int(targets[i])) for i in range(5)])
    parts = explain(network, queries, targets, batch_size=2)
    assert torch.allclose(alone, contributions, atol=1e-12)
    assert torch.allclose(parts, contributions, atol=1e-12)


def test_contributions_are_not_the_plain_gradient_and_leave_the_network_as_it_was() -> None:
    network = bcos().train()
    queries = images(2)
    contributions = explain(network, queries, 1)
    assert network.training
    assert network.network.conv1.training
    network.eval()
    leaf = queries.clone().requires_grad_()
    [plain] = torch.autograd.grad(network(leaf)[:, 1].sum(), [leaf])
    assert not torch.allclose(contributions, plain * queries, atol=1e-3)
    assert not any(module.is_in_explanation_mode for module in network.modules() if hasattr(module, "detach"))


def test_contributions_of_a_positional_parity_model_sum_to_its_logit_and_lie_in_the_cell() -> None:
    torch.manual_seed(0)
    network = PerCell(SHAPE, (4, 5), BcosResNet, blocks=(1, 1, 1), width=4)
    lively(network)
    queries = images(3)
    contributions = explain(network, queries, (2, 1))
    logits = network(queries)[:, 2, 1].detach() - network.network.logit_bias
    assert torch.allclose(contributions.flatten(1).sum(1), logits, atol=1e-9, rtol=0)
    cells = network.grid.split(contributions).flatten(2).abs().sum(2)
    assert (cells[:, 2] > 0).all()
    assert (cells[:, [0, 1, 3]] == 0).all()


@pytest.mark.parametrize("name", GENERAL)
def test_captums_explainers_by_name_on_an_ordinary_network(name: str) -> None:
    network, queries = resnet(), images(3)
    attributions = explain(network, queries, torch.tensor([0, 1, 2]), name)
    assert attributions.shape == queries.shape
    assert attributions.isfinite().all()
    assert torch.allclose(explain(network, queries[1:2], 1, name), attributions[1:2], atol=1e-9)
    if name == "Saliency":
        leaf = queries.clone().requires_grad_()
        [plain] = torch.autograd.grad(network(leaf)[0, 0], [leaf])
        assert torch.allclose(attributions[0], plain[0].abs())


@pytest.mark.parametrize("name", ["DeepLIFT", "IntegratedGradients"])
def test_what_is_complete_sums_to_the_difference_from_zeros(name: str) -> None:
    network, queries = resnet(), images(3)
    options = dict(steps=400) if name == "IntegratedGradients" else {}
    attributions = explain(network, queries, 2, name, **options)
    wanted = (network(queries) - network(queries * 0))[:, 2].detach()
    assert torch.allclose(attributions.flatten(1).sum(1), wanted, rtol=0.01, atol=1e-3)


def test_smoothing_averages_over_a_window() -> None:
    network, queries = bcos(), images(2)
    sharp, smooth = explain(network, queries, 1), explain(network, queries, 1, smooth=3)
    assert torch.allclose(smooth[:, :, 4, 4], sharp[:, :, 3:6, 3:6].mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "target", "arguments", "message"),
    [
        (resnet, 0, dict(explainer="Ours"), "B-cos networks .BcosResNet"),
        (resnet, 0, dict(explainer="Ours"), "this ResNet is another"),
        (resnet, 4, dict(explainer="Saliency"), r"index into outputs of shape \(4,\)"),
        (resnet, (0, 1), dict(explainer="Saliency"), r"index into outputs of shape \(4,\)"),
        (resnet, 0, dict(explainer="GradCam"), "no explainer 'GradCam': did you mean 'GradCAM'?"),
        (resnet, 0, dict(explainer="Saliency", smooth=2), "an odd number such as 15, not 2"),
        (lambda: MLP(SHAPE, (4,), hidden=(5,)).double(), 0, dict(explainer="GradCAM"), "as ResNet, BcosResNet"),
        (lambda: bcos(), 0, dict(explainer="DeepLIFT"), "such as ResNet and MLP"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(
    network: Callable[[], nn.Module], target: object, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ParityError, match=message):
        explain(network(), images(2), target, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("queries", "target", "arguments", "message"),
    [
        (images(2).long(), 0, {}, "floating-point numbers, not torch.int64"),
        (images(0), 0, {}, "no queries to explain"),
        (images(2), 0, dict(batch_size=0), "batch_size counts queries, 1 or more, not 0"),
        (images(2), 2.7, {}, "a whole number, not 2.7"),
        (images(2), torch.tensor([1.9, 2.0]), {}, "a whole number"),
        (images(2), "3", {}, "such as a class, not '3'"),
        (images(2), None, {}, "such as a class, not None"),
        (images(2), 0, dict(steps=3), "Saliency has no option 'steps': it has none"),
        (
            images(2),
            0,
            dict(explainer="IntegratedGradients", steps=0),
            "steps of IntegratedGradients is a whole number",
        ),
        (images(2), 0, dict(explainer="Occlusion", rank=1), "Occlusion has no option 'rank': it has window"),
        (images(2), 0, dict(smooth=3.0), "an odd number such as 15, not 3.0"),
    ],
)
def test_what_cannot_be_explained_gets_one_sentence(
    queries: Tensor, target: object, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ParityError, match=message):
        explain(resnet(), queries, target, **{"explainer": "Saliency", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(("make", "channels"), [(bcos, 16), (resnet, 8)])
def test_grad_cam_takes_the_features_before_the_layer_that_makes_outputs(
    make: Callable[[], nn.Module], channels: int
) -> None:
    network = make()
    kept: list[Tensor] = []
    layer = _last_features(nn.Sequential(network, nn.Flatten(1)), images(1))
    layer.register_forward_hook(lambda _, __, output: kept.append(output))
    network(images(1))
    assert kept[0].shape[1] == channels


def test_occlusion_of_vectors_takes_the_queries_of_a_group_one_at_a_time() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(1), nn.Linear(8, 3)).double()
    coded = CodedModel(network, LinearEncoder(2, 1, (8,)), [network], LinearDecoder(2, 1, (3,)))
    groups = torch.rand(3, 2, 8, dtype=torch.float64)
    groups[:, 1] = 0
    found = explain_reconstruction(coded, groups, torch.tensor([False, True, True]), 0, 1, "Occlusion")
    assert not found.queries[:, 1].any()
    assert found.queries[:, 0].any()


def test_shares_of_half_precision_do_not_overflow() -> None:
    shares = positive_shares(torch.full((1, 2, 3, 64, 64), 30.0).half())
    assert torch.allclose(shares, torch.full((1, 2), 0.5))


@pytest.mark.parametrize("missing", ["captum.attr", "bcos.models.resnet"])
def test_what_is_not_installed_is_named_with_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ParityError, match=r"pip install 'parity\[explain\]'"):
        explain(resnet(), images(1), 0, "Saliency") if missing.startswith("captum") else bcos()
    assert importlib.import_module("parity.explanations") is not None


def test_a_network_of_one_output() -> None:
    network = bcos(outputs=(1,))
    assert network.logit_bias == 0
    assert torch.allclose(explain(network, images(2), 0).flatten(1).sum(1, keepdim=True), network(images(2)))


def test_networks_that_cannot_be_made_get_one_sentence() -> None:
    with pytest.raises(ParityError, match="takes images"):
        BcosResNet((12,), (4,))
    with pytest.raises(ParityError, match="3 or 4 stages"):
        BcosResNet(SHAPE, (4,), blocks=(1, 1))


def code(encoder: type[Encoder], k: int, network: str = "bcos") -> CodedModel:
    positional = encoder is LearnedGridEncoder
    make, base = (BcosResNet, bcos()) if network == "bcos" else (ResNet, resnet())
    small = dict(blocks=(1, 1, 1), width=4) if network == "bcos" else dict(blocks=(1, 1), widths=(4, 8))
    torch.manual_seed(3)
    decoder = (PositionalDecoder if positional else LinearDecoder)(k, 1, (4,))
    parity_model = PerCell(SHAPE, (k, 4), make, **small) if positional else make(SHAPE, (4,), **small)
    model = CodedModel(base, encoder(k, 1, SHAPE), [lively(parity_model)], decoder)
    return model.double().eval()


def missing(k: int, position: int) -> Tensor:
    return torch.arange(k + 1) != position


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("encoder", [LinearEncoder, ConcatenationEncoder, LearnedGridEncoder])
def test_contributions_to_a_reconstruction_sum_to_it_less_what_was_held(
    encoder: type[Encoder], k: int, through: bool
) -> None:
    model, queries, position = code(encoder, k), images(3, k), 1
    available = missing(k, position)
    found = explain_reconstruction(model, queries, available, position, 2, through_base_model=through)
    base, parity = model.outputs(queries)
    no_evidence = torch.full_like(parity, bcos().logit_bias)
    without = torch.full_like(base, bcos().logit_bias) if through else base
    empty = model.decoder(without, no_evidence, available.expand(3, -1))[:, position, 2]
    wanted = (model(queries, available.expand(3, -1))[:, position, 2] - empty).detach()
    assert torch.allclose(found.queries.flatten(1).sum(1), wanted, atol=1e-9, rtol=0)
    if not through:
        assert torch.allclose(found.coded.flatten(1).sum(1), wanted, atol=1e-9, rtol=0)
    parts = explain_reconstruction(model, queries, available, position, 2, through_base_model=through, batch_size=2)
    assert torch.allclose(parts.queries, found.queries, atol=1e-12)


@pytest.mark.parametrize("name", ["Ours", "InputXGradient", "IntegratedGradients", "Occlusion", "Saliency"])
@pytest.mark.parametrize("k", [2, 4])
def test_of_cells_everything_lies_on_the_right_query(k: int, name: str) -> None:
    model = code(LearnedGridEncoder, k)
    for position in (0, k - 1):
        found = explain_reconstruction(model, images(3, k), missing(k, position), position, 1, name)
        wanted = nn.functional.one_hot(torch.tensor(position), k).double().expand(3, -1)
        assert torch.equal(found.shares, wanted)


@pytest.mark.parametrize("name", GENERAL)
def test_of_a_sum_the_wrong_query_has_its_share(name: str) -> None:
    model = code(LinearEncoder, 2, "resnet")
    found = explain_reconstruction(model, images(4, 2), missing(2, 0), 0, 1, name)
    assert found.coded.shape == (4, 1, *SHAPE)
    assert found.queries.shape == (4, 2, *SHAPE)
    assert (found.shares >= 0).all()
    assert torch.allclose(found.shares.sum(1), torch.ones(4, dtype=torch.float64))
    assert found.shares[:, 1].mean() > 0.05


def test_a_query_that_is_black_gives_a_sum_nothing_of_its_own() -> None:
    """Of two queries of which one is zeros, gradient x input lies on the other alone."""
    model, queries = code(LinearEncoder, 2, "resnet"), images(2, 2)
    queries[:, 1] = 0
    found = explain_reconstruction(model, queries, missing(2, 0), 0, 1, "InputXGradient")
    assert (found.queries[:, 1] == 0).all()


def test_through_the_base_model_a_perfect_subtraction_reads_the_right_query_alone() -> None:
    """A linear network is its own perfect parity model: what the sum has of the other query is taken away again."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False)).double()
    model = CodedModel(network, LinearEncoder(2, 1, SHAPE), [network], LinearDecoder(2, 1, (4,))).eval()
    held, through = (
        explain_reconstruction(model, images(3, 2), missing(2, 0), 0, 1, "InputXGradient", through_base_model=through)
        for through in (False, True)
    )
    assert (held.shares[:, 1] > 0.1).all()
    assert torch.allclose(through.shares[:, 1], torch.zeros(3, dtype=torch.float64), atol=1e-9)


def test_codes_that_are_not_systematic_are_explained_too() -> None:
    model = CodedModel(bcos(), ReplicationEncoder(2, 2, SHAPE), [], ReplicationDecoder(2, 2, (4,))).eval()
    available = torch.tensor([False, True, True, True])
    found = explain_reconstruction(model, images(2, 2), available, 0, 1)
    assert torch.allclose(found.shares, torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(2, -1))


def test_a_position_that_need_not_or_cannot_be_rebuilt_gets_one_sentence() -> None:
    model, queries = code(LinearEncoder, 2), images(1, 2)
    with pytest.raises(ParityError, match="position 1 is available"):
        explain_reconstruction(model, queries, missing(2, 0), 1, 0)
    with pytest.raises(ParityError, match="0 to 1, not 2"):
        explain_reconstruction(model, queries, missing(2, 0), 2, 0)
    with pytest.raises(ParityError, match="LinearDecoder cannot rebuild position 0"):
        explain_reconstruction(model, queries, torch.tensor([False, False, True]), 0, 0)
    with pytest.raises(ParityError, match="B-cos networks"):
        explain_reconstruction(code(LinearEncoder, 2, "resnet"), queries, missing(2, 0), 0, 0)


def test_shares_count_positive_attribution_of_pixels() -> None:
    attributions = torch.zeros(1, 2, 3, 2, 2)
    attributions[0, 0, :, 0, 0] = torch.tensor([2.0, -1.0, 2.0])  # a pixel of 3 in all
    attributions[0, 1, :, 1, 1] = torch.tensor([1.0, 0.0, 0.0])
    attributions[0, 1, :, 0, 0] = torch.tensor([5.0, -7.0, 0.0])  # speaks against
    assert positive_shares(attributions).tolist() == [[0.75, 0.25]]
    assert positive_shares(-attributions.abs()).tolist() == [[0.0, 0.0]]


def test_pictures_have_colours_of_the_weights_and_the_contributions_sign() -> None:
    from matplotlib.figure import Figure

    query = images(1)[0]
    picture = color_image(bcos(), query, 1)
    assert picture.shape == (8, 8, 4)
    assert ((picture >= 0) & (picture <= 1)).all()
    contributions = explain(bcos(), query[None], 1)[0].sum(0)
    assert (picture[..., 3][contributions <= 0] == 0).all()
    assert (picture[..., 3][contributions > 0] > 0).any()
    axes = Figure().subplots()
    heat_map(contributions[None], axes)
    assert axes.images[0].get_array().shape == (8, 8)
    with pytest.raises(ParityError, match="B-cos networks"):
        color_image(resnet(), query, 1)


def test_integrated_gradients_need_no_more_at_once_than_a_batch() -> None:
    network, seen = resnet(), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    explain(network, images(5), torch.tensor([0, 1, 2, 3, 0]), "IntegratedGradients")
    assert max(seen) == 5


@pytest.mark.parametrize(
    ("available", "message"),
    [
        (torch.tensor([0, 1, 1]), "a tensor of bool, which of 3 outputs arrived, not torch.int64"),
        ([False, True, True], "a tensor of bool, which of 3 outputs arrived, not list"),
        (torch.tensor([False, True]), r"available has shape \(3,\), or \(2, 3\) for these groups, not \(2,\)"),
        (torch.zeros(5, 3, dtype=torch.bool), r"not \(5, 3\)"),
    ],
)
def test_availability_that_does_not_fit_gets_one_sentence(available: object, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        explain_reconstruction(code(LinearEncoder, 2), images(2, 2), available, 0, 0)  # type: ignore[arg-type]


def test_grad_cam_is_of_one_parity_model() -> None:
    networks = [resnet(), resnet()]
    coded = CodedModel(resnet(), LinearEncoder(3, 2, SHAPE), networks, LinearDecoder(3, 2, (4,))).double()
    available = torch.tensor([False, True, True, True, True])
    with pytest.raises(ParityError, match="GradCAM is of one network's features, and this code has 2 parity models"):
        explain_reconstruction(coded, images(2, 3), available, 0, 0, "GradCAM")


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((2, *SHAPE), {}, "a picture is of one image"),
        (SHAPE, dict(smooth=2), "an odd number"),
        (SHAPE, dict(percentile=150), "from 0 to 100, not 150"),
    ],
)
def test_pictures_that_cannot_be_drawn_get_one_sentence(
    shape: tuple[int, ...], arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ParityError, match=message):
        color_image(bcos(), torch.rand(shape, dtype=torch.float64), 0, **arguments)  # type: ignore[arg-type]
