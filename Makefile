# Everything runs in .venv, which is made on first use from python3 and the network.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PYTEST := $(BIN)/pytest -q
# Many tests start Python: it takes a third longer without what it compiled the last time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo tui test test-scale test-postgres lint bench soak notebooks notebooks-check notebooks-open
demo tui: .venv/.stamp
	@$(BIN)/kmslab $@
test: .venv/.stamp
	@$(PYTEST) -n $(WORKERS) --dist worksteal
# What several processes, a database server and a cluster do together.
test-scale: .venv/.stamp
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "scale and not soak"
# The suites of keystore and providers, with all labs in a PostgreSQL server of their own.
test-postgres: .venv/.stamp
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "not soak" --store postgresql \
	    tests/keystore tests/providers
lint: .venv/.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
bench: .venv/.stamp
	@$(PYTEST) -n 0 tests/benchmarks --benchmark-only --benchmark-sort=name \
	    --benchmark-columns=min,median,max,ops,rounds
soak: .venv/.stamp
	@KMSLAB_SOAK=1 $(PYTEST) -n $(WORKERS) --dist worksteal -m ""
	@for seed in 1 2 3 4 5; do KMSLAB_STALLS=$$seed $(PYTEST) -n $(WORKERS) tests/tui || exit; done
	@KMSLAB_SOAK=1 $(PYTEST) -n $(WORKERS) --store postgresql -m "" \
	    tests/keystore/test_keystore_storm.py tests/keystore/test_keystore_postgres_errors.py
	@$(MAKE) --no-print-directory test-postgres
# Run all notebooks and write them as they come out; or only see that they still come out so.
notebooks notebooks-check: .venv/.stamp
	@$(BIN)/python notebooks/build.py $(if $(findstring check,$@),--check)
notebooks-open: .venv/.stamp
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[notebooks]'
	@$(BIN)/jupyter lab notebooks

.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "kmslab needs Python 3.11 or newer, for example: make PYTHON=python3.12")'
	@echo "Setting up .venv: about a minute, once" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@touch $@
