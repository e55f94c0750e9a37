"""An artefact in a process that has torch and nothing else: the few lines of docs/export.md, for every code.

Arguments: a file of {name: (folder, stored queries, available)}, and where the answers are written.
"""

import functools
import json
import sys

import torch


@functools.cache
def load(file: str) -> torch.nn.Module:
    """Load a program, once."""
    return torch.export.load(file).module()


def answers(folder: str, stored: torch.Tensor, available: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Answer groups of stored queries (G k, *Q) under patterns (G, n): (G, k, *P), bool (G, k)."""
    with open(f"{folder}/manifest.json") as file:
        manifest = json.load(file)
    code, parts = manifest["code"], manifest["programs"]

    def program(name: str) -> torch.nn.Module:
        return load(f"{folder}/{name}.pt2")

    queries = program(parts["preprocessing"])(stored).unflatten(0, (-1, code["k"]))
    coded = program(parts["encoder"])(queries)
    base_queries = queries
    if not parts["parity"]:  # all workers run the base model
        base_queries = torch.cat([queries, coded], 1) if code["systematic"] else coded
    once = base_queries[:, : base_queries.shape[1] // code["copies"]]
    base_outputs = program(parts["base"])(once.flatten(0, 1)).unflatten(0, once.shape[:2])
    parity_outputs = [program(name)(coded[:, j]) for j, name in enumerate(parts["parity"])]
    nothing = torch.empty(len(queries), 0, *manifest["parity_shape"])
    return program(parts["decoder"])(
        torch.cat([base_outputs] * code["copies"], 1),
        torch.stack(parity_outputs, 1) if parity_outputs else nothing,
        available,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    asked = torch.load(sys.argv[1], weights_only=True)
    with torch.no_grad():
        torch.save({name: answers(*arguments) for name, arguments in asked.items()}, sys.argv[2])
