import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import ConvolutionalEncoder, Encoder, MLPDecoder, MLPEncoder
from parity.errors import ParityError

ENCODERS = [MLPEncoder, ConvolutionalEncoder]
CODES = [(1, 1), (2, 1), (3, 2), (2, 3), (5, 1)]
RGB = (3, 4, 5)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lively(encoder: Encoder) -> Encoder:
    """Double the weights: at torch's own start seven layers shrink a signal until differences could not be told."""
    for weight in encoder.parameters():
        weight.data.mul_(2)
    return encoder


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Sizes, as the paper's layers give them.


@pytest.mark.parametrize(
    ("k", "r", "shape", "number"),
    [(2, 1, (1, 28, 28), 3_690_288), (3, 1, (1, 28, 28), 7_379_008), (2, 2, (3, 4, 5), 3_280), (1, 1, (1, 1, 1), 4)],
)
def test_the_mlp_encoder_has_the_papers_size(k: int, r: int, shape: tuple[int, int, int], number: int) -> None:
    d = shape[1] * shape[2]
    with torch.device("meta"):
        encoder = MLPEncoder(k, r, shape)
    assert size(encoder) == number == (k + r) * d * (k * d + 1)


@pytest.mark.parametrize(("k", "r", "number"), [(2, 1, 73_001), (3, 1, 164_041), (4, 1, 291_441), (2, 3, 73_083)])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_the_convolutional_encoder_has_the_papers_size_whatever_the_query(
    k: int, r: int, number: int, shape: tuple[int, int, int]
) -> None:
    c = 20 * k
    first, five, last = (9 * k + 1) * c, 5 * (9 * c + 1) * c, (c + 1) * r
    assert size(ConvolutionalEncoder(k, r, shape)) == number == first + five + last


@pytest.mark.parametrize(
    ("k", "r", "shape", "number"),
    [(2, 1, (10,), 1_970), (3, 1, (10,), 3_800), (4, 1, (10,), 6_230), (2, 2, (2, 3), 1_056)],
)
def test_the_mlp_decoder_has_the_papers_size(k: int, r: int, shape: tuple[int, ...], number: int) -> None:
    p, n = math.prod(shape), k + r
    assert size(MLPDecoder(k, r, shape)) == number == (n * p + k * p) * (n * p + 1) + k * p * (k * p + 1)


# What the networks compute, from their parameters alone.


@pytest.mark.parametrize(("k", "r"), CODES)
def test_the_mlp_encoder_computes_two_layers_of_each_channel(k: int, r: int) -> None:
    encoder = MLPEncoder(k, r, RGB)
    queries = random(2, k, *RGB)
    parity_queries = encoder(queries)
    assert parity_queries.shape == (2, r, *RGB)
    weight_1, bias_1, weight_2, bias_2 = encoder.parameters()
    for group, channel in itertools.product(range(2), range(3)):
        flat = torch.cat([queries[group, i, channel].flatten() for i in range(k)])
        expected = weight_2 @ (weight_1 @ flat + bias_1).relu() + bias_2
        assert torch.allclose(parity_queries[group, :, channel], expected.view(r, 4, 5), atol=1e-5)


@pytest.mark.parametrize(("k", "r"), CODES)
def test_the_convolutional_encoder_computes_seven_layers_of_each_channel(k: int, r: int) -> None:
    shape = (2, 20, 18)
    encoder = lively(ConvolutionalEncoder(k, r, shape))
    queries = random(2, k, *shape)
    parity_queries = encoder(queries)
    assert parity_queries.shape == (2, r, *shape)
    parameters = list(encoder.parameters())
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    assert len(layers) == 7
    for channel in range(2):
        images = queries[:, :, channel]
        for (weight, bias), dilation in zip(layers[:6], (1, 1, 2, 4, 8, 1), strict=True):
            images = functional.conv2d(images, weight, bias, padding=dilation, dilation=dilation).relu()
        expected = functional.conv2d(images, *layers[6])
        assert expected.std() > 0.1
        assert torch.allclose(parity_queries[:, :, channel], expected, atol=1e-4)


@pytest.mark.parametrize(("k", "r"), CODES)
@pytest.mark.parametrize("shape", [(10,), (2, 3)])
def test_the_mlp_decoder_computes_three_layers_of_all_outputs(k: int, r: int, shape: tuple[int, ...]) -> None:
    decoder = MLPDecoder(k, r, shape)
    available = erasures.missing_predictions(k, k + r, 1)
    base_outputs, parity_outputs = random(k, k, *shape), random(k, r, *shape, seed=1)
    rebuilt = decoder(base_outputs, parity_outputs, available)
    assert rebuilt.shape == (k, k, *shape)
    weight_1, bias_1, weight_2, bias_2, weight_3, bias_3 = decoder.parameters()
    for i in range(k):
        outputs = torch.cat([base_outputs[i], parity_outputs[i]])
        outputs[i] = 0
        hidden = (weight_1 @ outputs.flatten() + bias_1).relu()
        hidden = (weight_2 @ hidden + bias_2).relu()
        expected = (weight_3 @ hidden + bias_3).view(k, *shape)
        assert torch.allclose(rebuilt[i, i], expected[i], atol=1e-5)


# Channel by channel.


@pytest.mark.parametrize("encoder_class", ENCODERS)
def test_colours_are_encoded_each_on_its_own_and_all_alike(encoder_class: type[Encoder]) -> None:
    encoder = lively(encoder_class(2, 2, RGB))
    queries = random(3, 2, *RGB)
    parity_queries = encoder(queries)
    order = [2, 0, 1]
    assert torch.allclose(encoder(queries[:, :, order]), parity_queries[:, :, order], atol=1e-5)
    assert not torch.allclose(parity_queries[:, :, order], parity_queries, atol=1e-2)

    bluer = queries.clone()
    bluer[:, :, 2] += 1
    changed = (encoder(bluer) - parity_queries).abs().amax((0, 1, 3, 4))
    assert changed[0] < 1e-5
    assert changed[1] < 1e-5
    assert changed[2] > 1e-2


@pytest.mark.parametrize("encoder_class", ENCODERS)
def test_the_groups_of_a_batch_do_not_touch_each_other(encoder_class: type[Encoder]) -> None:
    encoder = lively(encoder_class(2, 1, RGB))
    queries = random(4, 2, *RGB)
    assert torch.allclose(encoder(queries)[2:3], encoder(queries[2:3]), atol=1e-5)
    assert encoder(queries[:0]).shape == (0, 1, *RGB)


@pytest.mark.parametrize("encoder_class", ENCODERS)
def test_memory_formats_do_not_change_the_code(encoder_class: type[Encoder]) -> None:
    encoder = lively(encoder_class(2, 1, RGB))
    queries = random(4, 2, *RGB)
    transposed = queries.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.allclose(encoder(transposed), encoder(queries), atol=1e-5)


def test_a_pixel_of_the_convolutional_encoder_sees_17_in_each_direction() -> None:
    encoder = ConvolutionalEncoder(1, 1, (1, 41, 43))
    for weight in encoder.parameters():
        weight.data.fill_(0.01)  # so that no ReLU hides a path
    queries = torch.ones(1, 1, 1, 41, 43, requires_grad=True)
    encoder(queries)[0, 0, 0, 20, 21].backward()
    assert queries.grad is not None
    seen = torch.zeros(41, 43, dtype=torch.bool)
    seen[20 - 17 : 20 + 18, 21 - 17 : 21 + 18] = True
    assert torch.equal(queries.grad[0, 0, 0] > 0, seen)


# Decoding.


@pytest.mark.parametrize(("k", "r"), CODES)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf")])
def test_what_arrived_comes_back_and_what_did_not_is_never_read(k: int, r: int, garbage: float) -> None:
    decoder = MLPDecoder(k, r, (4,))
    available = erasures.Strata(k + r).patterns
    available = available[decoder.can_decode(available)]
    base_outputs, parity_outputs = random(len(available), k, 4), random(len(available), r, 4, seed=1)
    expected = decoder(base_outputs, parity_outputs, available)

    arrived = available[:, :k]
    assert torch.equal(expected[arrived].view(torch.int32), base_outputs[arrived].view(torch.int32)), "the same bits"
    rebuilt = decoder(
        base_outputs.masked_fill(~arrived[..., None], garbage),
        parity_outputs.masked_fill(~available[:, k:, None], garbage),
        available,
    )
    assert torch.equal(rebuilt, expected)
    assert not torch.isclose(rebuilt[~arrived], base_outputs[~arrived], atol=1e-4).all(1).any()

    rebuilt.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in decoder.parameters())


def test_every_output_that_arrived_is_used() -> None:
    decoder = MLPDecoder(2, 2, (3,))
    base_outputs = random(1, 2, 3).requires_grad_()
    parity_outputs = random(1, 2, 3, seed=1).requires_grad_()
    decoder(base_outputs, parity_outputs, torch.tensor([[False, True, True, False]]))[0, 0].sum().backward()
    assert base_outputs.grad is not None
    assert parity_outputs.grad is not None
    assert base_outputs.grad[0].ne(0).any(1).tolist() == [False, True]
    assert parity_outputs.grad[0].ne(0).any(1).tolist() == [True, False]


@pytest.mark.parametrize(("k", "r"), CODES)
def test_any_k_outputs_can_be_decoded_and_fewer_cannot(k: int, r: int) -> None:
    decoder = MLPDecoder(k, r, (4,))
    for row in erasures.Strata(k + r).patterns:
        decodable = int(row.sum()) >= k
        assert decoder.can_decode(row[None]).tolist() == [decodable]
        if not decodable:
            with pytest.raises(ParityError, match=f"MLPDecoder .*{erasures.describe(row)}"):
                decoder(torch.zeros(1, k, 4), torch.zeros(1, r, 4), row[None])


@pytest.mark.parametrize(("k", "r"), CODES)
def test_each_prediction_is_rebuilt_as_if_it_alone_were_unavailable(k: int, r: int) -> None:
    decoder = MLPDecoder(k, r, (5,))
    base_outputs, parity_outputs = random(3, k, 5), random(3, r, 5, seed=1)
    each = decoder.rebuild_each(base_outputs, parity_outputs)
    for i, pattern in enumerate(erasures.single_erasures(k, k + r)):
        rebuilt = decoder(base_outputs, parity_outputs, pattern.expand(3, -1))
        assert torch.allclose(each[:, i], rebuilt[:, i], atol=1e-6)


def test_there_is_no_exact_parity_target() -> None:
    decoder = MLPDecoder(2, 1, (10,))
    assert decoder.parity_shape((10,)) == (10,)
    with pytest.raises(ParityError, match="MLPDecoder has no exact parity target: train with a loss on"):
        decoder.parity_targets(torch.zeros(1, 2, 10))


# Training.


@pytest.mark.parametrize("encoder_class", ENCODERS)
def test_encoder_and_decoder_learn_through_a_frozen_parity_model(encoder_class: type[Encoder]) -> None:
    base_model, parity_model = (nn.Sequential(nn.Flatten(), nn.Linear(60, 4)).requires_grad_(False) for _ in range(2))
    model = CodedModel(base_model, encoder_class(2, 1, RGB), [parity_model], MLPDecoder(2, 1, (4,)))
    available = erasures.missing_predictions(2, 3, 1).repeat(8, 1)
    queries = random(16, 2, *RGB)
    predictions = model.base_outputs(queries)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=3e-3)
    missing = model.decoder.rebuilt(available)
    losses = []
    for _ in range(60):
        loss = functional.mse_loss(model(queries, available)[missing], predictions[missing])
        optimizer.zero_grad()
        loss.backward()
        for trained in (model.encoder, model.decoder):
            assert all(weight.grad is not None for weight in trained.parameters())
            assert any(weight.grad.ne(0).any() for weight in trained.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(weight.grad is None for part in (base_model, parity_model) for weight in part.parameters())


@pytest.mark.parametrize("encoder_class", ENCODERS)
def test_mixed_precision_leaves_what_arrived_as_it_is(encoder_class: type[Encoder]) -> None:
    encoder, decoder = encoder_class(2, 1, RGB), MLPDecoder(2, 1, (4,))
    queries, base_outputs = random(4, 2, *RGB), random(4, 2, 4)
    available = erasures.single_erasures(2, 3).repeat(2, 1)
    with torch.autocast("cpu", torch.bfloat16):
        parity_queries = encoder(queries)
        rebuilt = decoder(base_outputs, random(4, 1, 4, seed=1), available)
    assert torch.allclose(parity_queries.float(), encoder(queries), atol=0.05)
    assert rebuilt.dtype == torch.float32
    assert torch.equal(rebuilt[available[:, :2]], base_outputs[available[:, :2]])


# Refusals.


@pytest.mark.parametrize("coder", [*ENCODERS, MLPDecoder])
def test_a_code_without_parity_queries_is_refused(coder: type) -> None:
    with pytest.raises(
        ParityError, match=rf"{coder.__name__} needs k of at least 1 and r of at least 1, not k = \d and r = 0"
    ):
        coder(2, 0, (1, 4, 4))


@pytest.mark.parametrize("encoder_class", ENCODERS)
@pytest.mark.parametrize("shape", [(784,), (8, 8), (2, 3, 8, 8), ()])
def test_queries_that_are_no_images_are_refused(encoder_class: type[Encoder], shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match=rf"{encoder_class.__name__} needs images \(C, H, W\)") as error:
        encoder_class(2, 1, shape)
    assert str(shape) in str(error.value)
