#!/usr/bin/env python
"""The process that encodes, runs the base model, and decodes; parity models answer in other processes, over plain HTTP.

python frontend.py mine --parity http://127.0.0.1:8001 --lose 0

It needs torch, and nothing of parity. A parity model that does not answer in time is one more unavailable output.
"""

import argparse
import ctypes
import json
import math
import urllib.request
from pathlib import Path

import torch
from torch import Tensor


class Frontend:
    """Answers groups of queries, some of whose predictions do not arrive.

    Args:
        artefact: its folder, of a systematic code with parity models.
        parity: addresses of the parity models, in order.
        patience: seconds that a parity model may take.
    """

    def __init__(self, artefact: Path, parity: list[str], patience: float = 1.0) -> None:
        manifest = json.loads((artefact / "manifest.json").read_text())
        self.k, self.parity_shape = manifest["code"]["k"], manifest["parity_shape"]
        self.parity, self.patience = parity, patience
        self.preprocessing, self.encoder, self.base, self.decoder = (
            torch.export.load(artefact / f"{manifest['programs'][part]}.pt2").module()
            for part in ("preprocessing", "encoder", "base", "decoder")
        )

    def __call__(self, stored: Tensor, lose: list[int]) -> tuple[Tensor, Tensor]:
        """Answer one group as if the base model's predictions of some of its queries had not arrived.

        Args:
            stored: the group's queries (k, *Q), as they are stored.
            lose: which predictions do not arrive, 0 to k - 1.

        Returns:
            Predictions (k, *P), NaN where there is none, and bool (k,): where there is one.
        """
        with torch.no_grad():
            queries = self.preprocessing(stored)
            parity_queries = self.encoder(queries[None])[0]
            outputs = [self._ask(address, query) for address, query in zip(self.parity, parity_queries, strict=True)]
            kept = torch.tensor([query not in lose for query in range(self.k)])
            available = torch.cat([kept, torch.tensor([output is not None for output in outputs])])
            nothing = torch.zeros(*self.parity_shape)
            parity_outputs = torch.stack([nothing if output is None else output for output in outputs])
            predictions, there = self.decoder(self.base(queries)[None], parity_outputs[None], available[None])
        return predictions[0], there[0]

    def _ask(self, address: str, query: Tensor) -> Tensor | None:
        """Ask a parity model for its output (*P'); None where it does not answer."""
        query = query.contiguous()
        body = ctypes.string_at(query.data_ptr(), query.nbytes)
        try:
            with urllib.request.urlopen(address, data=body, timeout=self.patience) as answer:
                content = bytearray(answer.read())
        except OSError:
            return None
        if len(content) != 4 * math.prod(self.parity_shape):
            return None
        return torch.frombuffer(content, dtype=torch.float32).view(*self.parity_shape)


def main() -> None:
    """Answer a group of random queries, and print what became of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact", type=Path, help="folder of the artefact")
    parser.add_argument("--parity", nargs="+", required=True, metavar="URL", help="addresses of the parity models")
    parser.add_argument("--lose", type=int, nargs="*", default=[0], metavar="I", help="predictions that do not arrive")
    parser.add_argument(
        "--patience", type=float, default=1.0, metavar="S",
        help="seconds that a parity model may take (default: %(default)s)",
    )  # fmt: skip
    args = parser.parse_args()
    stated = json.loads((args.artefact / "manifest.json").read_text())["preprocessing"]
    frontend = Frontend(args.artefact, args.parity, args.patience)
    stored = torch.randint(0, 16, (frontend.k, *stated["shape"])).to(getattr(torch, stated["dtype"]))
    predictions, there = frontend(stored, args.lose)
    for query in range(frontend.k):
        fate = "lost" if not there[query] else "rebuilt" if query in args.lose else "arrived"
        print(f"query {query}: {fate}, {[round(number, 3) for number in predictions[query].flatten().tolist()]}")


if __name__ == "__main__":
    main()
