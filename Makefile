# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
# They need git, make and Python 3.11, 3.12 or 3.13 (PYTHON=python3.12 chooses one).

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python

.PHONY: setup quickstart serve-demo test lint types docs tests tables slow format lock sbom clean

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' \
		|| { echo "parity needs Python 3.11, 3.12 or 3.13: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(RUN) -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(RUN) --no-deps --config-settings editable_mode=compat -e .
	@touch $@

quickstart: setup
	$(RUN) train.py --dataset Digits --experiment_name mlp_k2_add
	$(RUN) evaluate.py --dataset Digits --experiment_name mlp_k2_add

serve-demo: setup
	$(RUN) benchmarks/serve_demo.py

test: lint types docs tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The documentation site, in docs/_build/html/index.html; any warning fails.
docs: setup
	$(BIN)/sphinx-build -q -W --keep-going -n -E docs docs/_build/html

# Every table of figures, from benchmarks/results.
tables: setup
	$(RUN) benchmarks/tables.py

# In two processes, each file in one of them: its fixtures are made once, and the SLURM of the tests has one node.
tests: setup
	$(RUN) -m pytest -n 2 --dist loadfile

slow: setup
	$(RUN) -m pytest -m slow

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Versions only: no address of an index, so that the lock holds wherever packages come from.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock
	$(BIN)/uv pip compile requirements.lock --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet -o requirements-hashed.lock

# What is installed, with licences, in CycloneDX's form.
sbom: setup
	$(RUN) .ci/sbom.py dist/sbom.json

clean:
	rm -rf docs/_build docs/api .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
