"""An artefact in a process that has onnxruntime, and numpy that it needs, and nothing else.

Arguments: a folder of an artefact, an .npz file of 'stored' queries and 'available', and where the answers are written.
"""

import json
import sys

import numpy as np
import onnxruntime


def answers(folder: str, stored: np.ndarray, available: np.ndarray) -> list[np.ndarray]:
    """Answer groups of stored queries (G k, *Q) under patterns (G, n): (G, k, *P), bool (G, k)."""
    with open(f"{folder}/manifest.json") as file:
        manifest = json.load(file)
    code, parts = manifest["code"], manifest["programs"]

    def run(name: str, *inputs: np.ndarray) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx")
        names = [wanted.name for wanted in session.get_inputs()]
        return session.run(None, dict(zip(names, inputs, strict=True)))

    (queries,) = run(parts["preprocessing"], stored)
    queries = queries.reshape(-1, code["k"], *queries.shape[1:])
    (coded,) = run(parts["encoder"], queries)
    base_queries = queries
    if not parts["parity"]:  # all workers run the base model
        base_queries = np.concatenate([queries, coded], 1) if code["systematic"] else coded
    (base_outputs,) = run(parts["base"], base_queries.reshape(-1, *base_queries.shape[2:]))
    base_outputs = base_outputs.reshape(*base_queries.shape[:2], *base_outputs.shape[1:])
    parity_outputs = [run(name, coded[:, j])[0] for j, name in enumerate(parts["parity"])]
    nothing = np.empty((len(queries), 0, *manifest["parity_shape"]), np.float32)
    parity = np.stack(parity_outputs, 1) if parity_outputs else nothing
    return run(parts["decoder"], base_outputs, parity, available)


if __name__ == "__main__":
    asked = np.load(sys.argv[2])
    predictions, there = answers(sys.argv[1], asked["stored"], asked["available"])
    np.savez(sys.argv[3], predictions=predictions, there=there)
