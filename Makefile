# `make test` and `make reproduce` are the two commands; each builds .venv first if it must.
PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready

.PHONY: test slow test-long matrix mutants lint wheel bench reproduce figures verify docs clean

# Most of the time of tests and of small settings is compilation, which goes faster without optimization;
# `make reproduce` and `make docs` compile as users do. What has been compiled stays in the user's cache
# (SOFTBON_CACHE, see `softbon --help`) for the next run.
TEST_XLA_FLAGS ?= --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1

# The quick tests, of every part; those that take a second or two each, or need the results of the
# experiments, are in `make slow`, and CI runs both.
test: $(READY)
	XLA_FLAGS="$(strip $(TEST_XLA_FLAGS) $(XLA_FLAGS))" $(PY) -m pytest -n 2 --dist loadfile -m "not slow and not long"

slow: $(READY)
	XLA_FLAGS="$(strip $(TEST_XLA_FLAGS) $(XLA_FLAGS))" $(PY) -m pytest -n 2 --dist loadfile -m "slow and not computes and not long"
	$(PY) -m pytest -n 2 -m "slow and computes and not long"

# Many more examples for the invariances, with random seeds, which are printed; every function on every
# kind of divided array; what `make test` and `make slow` look at in part. Before a release.
test-long: $(READY)
	$(PY) -m pytest -m long
	HYPOTHESIS_PROFILE=long $(PY) -m pytest tests/test_invariances.py tests/test_invariances_of_rules.py

# The wheel on every supported Python that is found, with the oldest and the newest JAX, or on those that
# MATRIX="--python 3.12 --jax newest" names.
matrix: $(READY)
	$(PY) -m tests.matrix $(MATRIX)

# Single mistakes in the formulas, one after another: what do the tests and the claims notice?
mutants: $(READY)
	mkdir -p results
	$(PY) -m tests.mutants --known results/mutants.jsonl --markdown results/mutants.md

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

wheel: $(READY)
	$(PY) -m hatchling build -d dist

bench: $(READY)
	$(PY) -m benchmarks

reproduce: $(READY)
	$(PY) -m experiments reproduce --config paper

figures: $(READY)
	$(PY) -m figures

verify: $(READY)
	XLA_FLAGS="$(strip $(TEST_XLA_FLAGS) $(XLA_FLAGS))" $(PY) -m experiments verify --config smoke

# Warnings are errors, links to names that are not documented too.
docs: $(READY)
	$(PY) -m sphinx -b html -E -W --keep-going -n -q docs docs/_build/html

clean:
	rm -rf .venv results docs/_build

$(READY): requirements/lock.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements/lock.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
