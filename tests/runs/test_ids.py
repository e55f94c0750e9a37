"""Codes for ids of tokens, from training to comparison."""

import json
from pathlib import Path

from parity.__main__ import main


def test_a_code_for_ids_is_trained_evaluated_and_compared(tmp_path: Path) -> None:
    where = ["--dataset", "Languages", "--base_directory", str(tmp_path)]
    short = ["--set", "trainer.max_epochs=1", "--accelerator", "cpu"]
    assert main(["train", *where, "--experiment_name", "transformer_k2_tokens", *short]) == 0
    device = ["--accelerator", "cpu"]
    assert main(["evaluate", *where, "--experiment_name", "transformer_k2_tokens", *device]) == 0
    output = tmp_path / "compared.json"
    assert main(["evaluate", *where, "--compare", "transformer_k2_tokens", *device, "--json", str(output)]) == 0
    assert json.loads(output.read_text())
