#!/bin/sh
# Everything that a GPU can show, in at most 10 minutes on one: prints a table and writes benchmarks/results/gpu_smoke.json.
cd "$(dirname "$0")/.." && exec "${PYTHON:-python}" benchmarks/gpu_smoke.py "$@"
