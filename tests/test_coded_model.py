import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder, LinearDecoder, LinearEncoder, coefficients
from parity.errors import ParityError

CODES = [(k, r) for r in (1, 2, 3) for k in range(1, 9)]
INPUTS, OUTPUTS = 3, 2


def linear_model(k: int, r: int, weight: Tensor, bias: Tensor) -> CodedModel:
    """A linear base model, and the parity models with which a linear code is exact."""

    def network(own_bias: Tensor) -> nn.Linear:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": own_bias})
        return layer

    parity_models = [network(bias * float(row.sum())) for row in coefficients(k, r)]
    shapes = (weight.shape[1],), (weight.shape[0],)
    return CodedModel(network(bias), LinearEncoder(k, r, shapes[0]), parity_models, LinearDecoder(k, r, shapes[1]))


def random_linear_model(k: int, r: int) -> CodedModel:
    generator = torch.Generator().manual_seed(k + 10 * r)
    weight, bias = torch.randn(OUTPUTS, INPUTS, generator=generator), torch.randn(OUTPUTS, generator=generator)
    return linear_model(k, r, weight, bias)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, OUTPUTS))


def nonlinear_model(k: int = 2, r: int = 1, seed: int = 0) -> CodedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CodedModel(
            mlp(), LinearEncoder(k, r, (INPUTS,)), [mlp() for _ in range(r)], LinearDecoder(k, r, (OUTPUTS,))
        ).eval()


def decodable(k: int, r: int) -> Tensor:
    """All patterns of up to r erasures."""
    return torch.cat([erasures.patterns(k + r, erased) for erased in range(r + 1)])


@pytest.mark.parametrize(("k", "r"), CODES)
def test_a_linear_model_is_rebuilt_under_every_pattern_of_up_to_r_erasures(k: int, r: int) -> None:
    model, available = random_linear_model(k, r), decodable(k, r)
    queries = torch.randn(len(available), k, INPUTS, generator=torch.Generator().manual_seed(0))
    predictions = model.base_outputs(queries)
    answers = model(queries, available)
    assert torch.allclose(answers, predictions, atol=1e-3)
    assert torch.equal(answers[available[:, :k]], predictions[available[:, :k]])


def numbers(*shape: int) -> st.SearchStrategy:
    return hnp.arrays("float32", shape, elements=st.floats(-10, 10, width=32))


@settings(max_examples=150)
@given(code=st.sampled_from(CODES), data=st.data())
def test_any_linear_model_is_rebuilt_from_any_queries(code: tuple[int, int], data: st.DataObject) -> None:
    k, r = code
    weight, bias = torch.tensor(data.draw(numbers(OUTPUTS, INPUTS))), torch.tensor(data.draw(numbers(OUTPUTS)))
    queries, available = torch.tensor(data.draw(numbers(k, INPUTS))), decodable(k, r)
    model = linear_model(k, r, weight, bias)
    expected = queries.double() @ weight.double().T + bias.double()
    # What the sums in a model and its code add up, and so the size of their rounding errors (2^-24 of it each).
    size = INPUTS * weight.abs().max() * queries.abs().max() + bias.abs().max()
    answers = model(queries.expand(len(available), k, INPUTS), available)
    assert (answers - expected).abs().max() <= 1e-4 * size + 1e-30  # numbers below it may vanish in float32


@pytest.mark.parametrize(("k", "r"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_available_predictions_are_the_base_models_whatever_the_parity_models_say(k: int, r: int) -> None:
    model, available = nonlinear_model(k, r), decodable(k, r)
    queries = torch.randn(len(available), k, INPUTS, generator=torch.Generator().manual_seed(0))
    predictions = model.base_outputs(queries)
    arrived = available[:, :k]
    answers = model(queries, available)
    assert torch.equal(answers[arrived], predictions[arrived])
    assert not torch.allclose(answers[~arrived], predictions[~arrived])


@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_an_unavailable_worker_says_is_never_used(position: int) -> None:
    model = random_linear_model(2, 1)
    queries = torch.randn(4, 2, INPUTS, generator=torch.Generator().manual_seed(0))
    predictions = model.base_outputs(queries)
    available = torch.ones(4, 3, dtype=torch.bool)
    available[:, position] = False
    outputs = torch.cat([predictions, model.parity_outputs(model.encoder(queries))], dim=1)
    outputs[:, position] = float("nan")
    answers = model.decoder(outputs[:, :2], outputs[:, 2:], available)
    assert torch.allclose(answers, predictions, atol=1e-4)
    assert torch.equal(answers[available[:, :2]], predictions[available[:, :2]])


def test_a_broken_parity_model_that_is_unavailable_does_no_harm() -> None:
    model = nonlinear_model(2, 1)
    nn.init.constant_(model.parity_models[0][-1].bias, float("nan"))
    queries = torch.randn(4, 2, INPUTS, generator=torch.Generator().manual_seed(0))
    answers = model(queries, torch.tensor([[True, True, False]]).expand(4, -1))
    assert torch.equal(answers, model.base_outputs(queries))


@pytest.mark.parametrize(("k", "r"), [(1, 1), (2, 1), (3, 2), (2, 3)])
def test_undecodable_patterns_are_known_beforehand_and_named(k: int, r: int) -> None:
    model = nonlinear_model(k, r)
    for row in erasures.Strata(k + r).patterns:
        possible = int((~row).sum()) <= r
        assert model.decoder.can_decode(row[None]).tolist() == [possible]
        if possible:
            model(torch.zeros(1, k, INPUTS), row[None])
        else:
            with pytest.raises(ParityError, match=erasures.describe(row)):
                model(torch.zeros(1, k, INPUTS), row[None])


def test_the_message_names_the_pattern() -> None:
    with pytest.raises(ParityError, match=r"outputs 0 and 2 of 3 unavailable"):
        nonlinear_model(2, 1)(torch.zeros(1, 2, INPUTS), torch.tensor([[False, True, False]]))


@pytest.mark.parametrize("shape", [(4, 3, INPUTS), (4, INPUTS), (4, 2, INPUTS + 1)])
def test_queries_that_are_no_groups_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match="groups of k = 2 queries"):
        nonlinear_model(2, 1)(torch.zeros(shape), torch.ones(4, 3, dtype=torch.bool))


def test_encoder_and_decoder_must_be_of_one_code() -> None:
    with pytest.raises(ParityError, match=r"different codes: \(k, r\) = \(2, 1\) and \(3, 1\)"):
        CodedModel(mlp(), LinearEncoder(2, 1, (INPUTS,)), [mlp()], LinearDecoder(3, 1, (OUTPUTS,)))


def assert_only_the_base_model_is_in_eval_mode(model: CodedModel) -> None:
    assert not any(module.training for module in model.base_model.modules())
    assert all(module.training for module in model.parity_models.modules())


def test_the_base_model_stays_in_eval_mode_and_only_it() -> None:
    model = CodedModel(mlp().train(), LinearEncoder(2, 1, (INPUTS,)), [mlp().train()], LinearDecoder(2, 1, (OUTPUTS,)))
    assert_only_the_base_model_is_in_eval_mode(model)
    assert_only_the_base_model_is_in_eval_mode(model.train())
    nn.ModuleList([model]).train()  # as a LightningModule that holds it
    assert_only_the_base_model_is_in_eval_mode(model)
    assert not any(module.training for module in model.eval().modules())


def test_letters() -> None:
    model = nonlinear_model(3, 2)
    assert (model.k, model.r, model.n) == (3, 2, 5)


def test_each_parity_query_is_answered_by_its_own_parity_model() -> None:
    model = nonlinear_model(3, 2)
    parity_queries = torch.randn(4, 2, INPUTS, generator=torch.Generator().manual_seed(0))
    outputs = model.parity_outputs(parity_queries)
    for j, network in enumerate(model.parity_models):
        assert torch.equal(outputs[:, j], network(parity_queries[:, j]))


def test_the_state_dict_is_the_whole_model() -> None:
    model, other = nonlinear_model(3, 2, seed=0), nonlinear_model(3, 2, seed=1)
    queries, available = torch.randn(16, 3, INPUTS, generator=torch.Generator().manual_seed(0)), decodable(3, 2)
    before = model(queries, available)
    assert not torch.allclose(other(queries, available), before)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(queries, available), before)


@pytest.mark.parametrize("count", [0, 2])
def test_the_number_of_parity_models_must_be_the_codes(count: int) -> None:
    encoder, decoder = LinearEncoder(2, 1, (3,)), LinearDecoder(2, 1, (3,))
    with pytest.raises(ParityError, match=f"needs 1 parity models, not {count}"):
        CodedModel(nn.Linear(3, 3), encoder, [nn.Linear(3, 3) for _ in range(count)], decoder)


def test_queries_and_predictions_may_be_numbers() -> None:
    encoder, decoder = LinearEncoder(2, 1, ()), LinearDecoder(2, 1, ())
    queries = torch.tensor([[1.0, 2.0]])
    parity = encoder(queries)
    assert parity.tolist() == [[3.0]]
    assert decoder(queries, parity, torch.tensor([[True, False, True]])).tolist() == [[1.0, 2.0]]


def test_base_predictions_are_the_base_models_of_the_queries_whatever_the_code() -> None:
    base, queries = mlp().eval(), torch.randn(4, 2, INPUTS)
    coded = CodedModel(base, BerrutEncoder(2, 1, (INPUTS,)), [], BerrutDecoder(2, 1, (OUTPUTS,)))
    for model in (nonlinear_model(), coded):
        base_outputs, _ = model.outputs(queries)
        assert torch.equal(model.base_predictions(queries, base_outputs), model.base_outputs(queries))
