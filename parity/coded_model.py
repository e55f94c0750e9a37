"""CodedModel: a base model made resilient by an encoder, parity models and a decoder."""

import contextlib
from collections.abc import Iterable
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn

from parity.coders import Decoder, Encoder
from parity.coders.detection import Detector
from parity.errors import ParityError
from parity.vocabulary import check_ids, vocabulary_of


class CodedModel(nn.Module):
    """Wires queries -> encoder -> workers -> erasure -> decoder, and owns nothing else.

    It is what is trained, checkpointed, loaded and served; its state dict is the deployable artefact. Of the n workers
    the first m = n - len(parity_models) run the base model, the others a parity model each. The base model stays in
    eval mode whatever ``train()`` is asked for, also where it is a parity model too.

    Args:
        base_model: network, (B, *Q) -> (B, *P).
        encoder: of a (k, r) code.
        parity_models: networks, (B, *Q') -> (B, *P') each.
        decoder: of the same (k, r) code.

    Raises:
        ParityError: encoder and decoder are of different codes, or the parity models are too many or too few.
    """

    def __init__(
        self, base_model: nn.Module, encoder: Encoder, parity_models: Iterable[nn.Module], decoder: Decoder
    ) -> None:
        super().__init__()
        if (encoder.k, encoder.r) != (decoder.k, decoder.r):
            raise ParityError(
                f"encoder and decoder are of different codes: (k, r) = {(encoder.k, encoder.r)} "
                f"and {(decoder.k, decoder.r)}."
            )
        self.base_model = base_model
        self.encoder = encoder
        self.parity_models = nn.ModuleList(parity_models)
        self.decoder = decoder
        if len(self.parity_models) != encoder.parity_workers:
            raise ParityError(
                f"{type(encoder).__name__} with r = {encoder.r} needs {encoder.parity_workers} parity models, "
                f"not {len(self.parity_models)}."
            )
        self.base_model.eval()

    @property
    def k(self) -> int:
        """Queries in a coding group."""
        return self.encoder.k

    @property
    def r(self) -> int:
        """Parity queries made of a group."""
        return self.encoder.r

    @property
    def n(self) -> int:
        """Outputs of a group."""
        return self.encoder.n

    @property
    def device(self) -> torch.device:
        """Where its parameters and buffers are; the CPU where it has none."""
        held = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if held is None else held.device

    @cached_property
    def vocabulary(self) -> int | None:
        """Ids of tokens are below it, as the base model takes them; None where it takes any, or queries are not ids."""
        return vocabulary_of(self.base_model, self.encoder.query_shape) if self.encoder.takes_ids else None

    def train(self, mode: bool = True) -> "CodedModel":
        super().train(mode)
        self.base_model.eval()
        return self

    def base_outputs(self, queries: Tensor) -> Tensor:
        """Return the base model's outputs: queries (G, m, *Q) -> (G, m, *P)."""
        outputs = self.base_model(queries.flatten(0, 1))
        return outputs.unflatten(0, queries.shape[:2])

    def parity_outputs(self, parity_queries: Tensor) -> Tensor:
        """Return the parity models' outputs: parity queries (G, n - m, *Q') -> (G, n - m, *P')."""
        if not self.parity_models:
            shape = self.decoder.parity_shape(self.decoder.prediction_shape)
            return parity_queries.new_empty(len(parity_queries), 0, *shape)
        outputs = [model(asked) for model, asked in zip(self.parity_models, parity_queries.unbind(1), strict=True)]
        return torch.stack(outputs, dim=1) if len(outputs) > 1 else outputs[0].unsqueeze(1)

    def base_predictions(self, queries: Tensor, base_outputs: Tensor) -> Tensor:
        """Return what the base model predicts for the queries themselves, with no output unavailable.

        Args:
            queries: (G, k, *Q).
            base_outputs: (G, m, *P), those of ``outputs``; in a systematic code the first k are the predictions.

        Returns:
            (G, k, *P).
        """
        return base_outputs[:, : self.k] if self.encoder.systematic else self.base_outputs(queries)

    def outputs(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the n workers; one of a query that goes to several of them is computed once.

        Args:
            queries: (G, k, *Q).

        Returns:
            Base outputs (G, m, *P) and parity outputs (G, n - m, *P').

        Raises:
            ParityError: the queries are not groups of k.
        """
        base_queries, parity_queries = self.encoder.dispatch(queries)
        copies = self.encoder.copies
        outputs = self.base_outputs(base_queries[:, : base_queries.shape[1] // copies])
        if copies > 1:
            outputs = torch.cat([outputs] * copies, dim=1)
        return outputs, self.parity_outputs(parity_queries)

    @torch.no_grad()
    def blank_query(self) -> Tensor:
        """Return a query (*Q) that stands where there is none: zeros; of ids, ones, for 0 is often padding alone.

        Queries are ids where the code takes nothing else, or takes both and the base model takes ids alone, or ids of a
        vocabulary. The model is in eval mode, on the CPU.
        """
        shape = tuple(self.encoder.query_shape)
        ids, numbers = torch.ones(shape, dtype=torch.int64), torch.zeros(shape)
        if not self.encoder.takes_ids:
            return numbers
        if not self.encoder.takes_numbers:
            return ids
        if not self._takes(ids):
            return numbers
        return numbers if self._takes(numbers) and self.vocabulary is None else ids

    def _takes(self, query: Tensor) -> bool:
        """Return whether the base model predicts for a query (*Q) of this type."""
        with contextlib.suppress(Exception):  # of a user's own network
            self.base_model(query[None])
            return True
        return False

    def forward(self, queries: Tensor, available: Tensor, detector: Detector | None = None) -> Tensor:
        """Answer as a resilient server would.

        Args:
            queries: (G, k, *Q).
            available: bool (G, n), True where a worker's output arrives; the others' outputs are not used.
            detector: what it suspects is treated as unavailable, where the others make up for it; by default nothing
                is suspect.

        Returns:
            (G, k, *P). Predictions of a systematic code that are available are the base model's, bit for bit.

        Raises:
            ParityError: the queries are not groups of k, or have ids that are not in the vocabulary, or a pattern
                cannot be rebuilt.
        """
        if not queries.is_floating_point():
            check_ids(queries, self.vocabulary, "the queries")
        elif self.vocabulary is not None:
            raise ParityError(f"queries are ids of tokens, integers, not {queries.dtype}: hand over queries.long().")
        predict = self.decoder if detector is None else detector.predictions
        return predict(*self.outputs(queries), available)
