# Two commands: `make demo` shows everything, `make test` proves it. Both prepare .venv from the locked requirements.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
NATIVE := $(wildcard */_*.c */*/_*.c */*.h */*/*.h)
ARGS ?=

.PHONY: help setup setup-dev demo demo-check test test-heavy bench bench-peers bench-decide bench-learning bench-pipeline soak lint format lock clean

help:  ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: .venv/.default  ## Prepare .venv; nothing to do when it is up to date

setup-dev: .venv/.dev

# The stamp is written last: a setup that was interrupted starts again.
.venv/.default: requirements/default.txt pyproject.toml $(NATIVE)
	@test -n "$(PYTHON)" || { echo "Segue needs Python 3.11 or later, and found none: install it, or name it: make PYTHON=/path/to/python3"; exit 2; }
	@echo "Preparing .venv from requirements/default.txt (a minute or two, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/default.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Some come as source alone (pyspark): they are built with the locked setuptools, so that nothing unlocked is fetched.
.venv/.dev: .venv/.default requirements/dev.txt
	@echo "Adding the development tools from requirements/dev.txt"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation -r requirements/dev.txt
	@touch $@

demo: setup  ## Simulate, train, promote, publish, serve: everything once (ARGS="--check" to verify and stop)
	@$(BIN)/segue demo $(ARGS)

demo-check: setup  ## The demo, verified over HTTP; fails when anything is off
	@$(BIN)/segue demo --check $(ARGS)

test: setup-dev  ## The whole suite, in minutes
	@$(BIN)/python -m pytest -q -m "not heavy" -n auto --dist loadfile $(ARGS)

test-heavy: setup-dev  ## The slow tests that `make test` leaves out
	@$(BIN)/python -m pytest -q -m heavy $(ARGS)

# The rule engines to compare with live in an environment of their own: no part of Segue needs them.
.venv-bench/.stamp: requirements/bench.txt pyproject.toml $(NATIVE)
	@test -n "$(PYTHON)" || { echo "Segue needs Python 3.11 or later, and found none: install it, or name it: make PYTHON=/path/to/python3"; exit 2; }
	@echo "Preparing .venv-bench from requirements/bench.txt (a minute or two, once)"
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

bench-decide: .venv-bench/.stamp  ## How long decisions take, beside their targets and other rule engines
	@.venv-bench/bin/python benchmarks/decide.py $(ARGS)

# Other people's servers need other versions than Segue: each has an environment that holds nothing of ours.
.venv-peers/%/.stamp: requirements/peers/%.txt
	@test -n "$(PYTHON)" || { echo "Segue needs Python 3.11 or later, and found none: install it, or name it: make PYTHON=/path/to/python3"; exit 2; }
	@echo "Preparing .venv-peers/$* from requirements/peers/$*.txt (a minute or two, once)"
	@test -x .venv-peers/$*/bin/python || $(PYTHON) -m venv .venv-peers/$*
	@.venv-peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers/$*.txt
	@touch $@

bench-pipeline: setup-dev .venv-peers/feast/.stamp  ## What snapshots, publishing, the log and batches come to, beside their targets and Feast
	@$(BIN)/python -m benchmarks.pipeline $(ARGS)

bench: setup-dev  ## Segue's server beside an echo, a raw socket and the same service by hand, against floors and aims
	@$(BIN)/python -m benchmarks.serving $(ARGS)

PEERS := feast mlflow bentoml ray_serve mlserver
bench-peers: setup-dev $(PEERS:%=.venv-peers/%/.stamp)  ## The same beside Feast, MLflow, BentoML, Ray Serve and MLServer
	@$(BIN)/python -m benchmarks.serving --only peers $(ARGS)

bench-learning: setup-dev  ## What learning, the gate, what-if and the simulator come to, beside their targets
	@$(BIN)/python -m benchmarks.learning $(ARGS)

soak: setup-dev  ## Five minutes of load with a fault every 20 seconds: what failed, what grew, what was lost (ARGS="--minutes 60")
	@$(BIN)/python -m benchmarks.soak $(ARGS)

lint: setup-dev  ## Format, style, types of the decision core, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup-dev  ## Format the code and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock:  ## Resolve the requirements again (needs uv)
	@requirements/lock $(ARGS)

clean:  ## Remove .venv and caches; leaves .segue alone
	rm -rf .venv .venv-bench .venv-peers .segue-bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info build */*.so */*/*.so
