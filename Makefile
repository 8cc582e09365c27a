# Everything a newcomer needs: `make demo` and `make test` set up .venv by themselves.

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests demo quick test test-long test-kernels simulate simulate-paths soak soak-kills soak-brokers lint mutants bench record-model screenshots tapes picture pins clean

BIN := .venv/bin
UV ?= uv

help:
	@echo 'make demo   two people on this machine: a task sent, approved, run in the sandbox, answered'
	@echo 'make quick  the tests of the pure rooms: below a minute'
	@echo 'make test   the suite but for what is marked long (ARGS="tests/protocol -x" for a part of it)'
	@echo 'make test-long  all of it, with twenty times the examples of each property'
	@echo 'make test-kernels  older kernels booted under qemu, and what a run promises tried there (root; ARGS="debian-12")'
	@echo 'make simulate  two hundred seeds of whole nodes in virtual time, with everything going wrong (ARGS="37" for one)'
	@echo 'make simulate-paths  a thousand seeds of nodes on paths and relays that come and go (ARGS="37" for one)'
	@echo 'make soak  half an hour of traffic, one daemon frozen for ten minutes; nothing may grow (ARGS="--minutes 5 --frozen 1")'
	@echo 'make soak-kills  ten minutes of SIGKILLs under traffic, then an account (ARGS="--minutes 2")'
	@echo 'make soak-brokers  five minutes of three brokers that are killed under two hundred devices, then an account (ARGS="--storage file")'
	@echo 'make lint   ruff, mypy --strict, the import rules'
	@echo 'make mutants  one guard after the other is changed, and a test has to fail (ARGS="peer.trust" for a part of it)'
	@echo 'make bench  measurements beside their bounds'
	@echo 'make record-model  what the pinned agent program asks of its model, recorded anew; names what the table lacks'
	@echo 'make screenshots  every view of the local page, dark and light, narrow and wide, into screenshots/'
	@echo 'make tapes  what the main commands show on terminals of 80 and 40 columns, into tapes/'
	@echo 'make picture  docs/page.svg, which the README shows, drawn anew from the real page'
	@echo 'make pins   requirements.txt anew from pyproject.toml (needs uv)'
	@echo 'make clean  remove .venv and what tools left behind'

setup:
	@.ci/setup

# And what the tests drive: Debian's Chromium, the MCP Inspector. The demo does without.
setup-tests:
	@.ci/setup tests

# Without a person at a terminal the demo answers its own questions.
demo: setup
	@if [ -t 0 ] && [ -t 1 ]; then exec $(BIN)/dispatch demo $(ARGS); else exec $(BIN)/dispatch demo --yes $(ARGS); fi

# How many examples a property gets; tests/conftest.py has the profiles. The CI's are the same every time.
PROFILE ?= default
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
PURE := protocol trust dispatches projects store steps
PURE_SANDBOX := policy gate rules line_diff written frames anthropic_requests

quick: setup
	@$(PYTEST) --hypothesis-profile $(PROFILE) -m 'not long' \
	    $(PURE:%=tests/%) $(PURE_SANDBOX:%=tests/sandbox/test_%.py) $(ARGS)

test: setup-tests
	@$(PYTEST) --hypothesis-profile $(PROFILE) -m 'not long' $(ARGS)

test-long: setup-tests
	@$(PYTEST) --hypothesis-profile long $(ARGS)

# Kernels as Debian and Ubuntu ship them, under qemu; root. ARGS="debian-12 ubuntu-24.04" for some of them.
test-kernels: setup-tests
	@$(BIN)/python -m tests.kernels $(ARGS)

simulate: setup-tests
	@$(BIN)/python -m tests.simulation $(or $(ARGS),1 200)

simulate-paths: setup-tests
	@$(BIN)/python -m tests.simulation.paths $(or $(ARGS),1 1000)

soak: setup-tests
	@$(BIN)/python -m tests.soak.steady $(ARGS)

soak-kills: setup-tests
	@$(BIN)/python -m tests.soak.kills $(ARGS)

soak-brokers: setup-tests
	@$(BIN)/python -m tests.soak.brokers $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# mutmut and what only it needs stand beside the packages of .venv, in a folder of their own.
.venv/mutmut/.made: tests/mutants/requirements.txt
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	    --target $(@D) --requirement $<
	@touch $@

mutants: setup .venv/mutmut/.made
	@PYTHONPATH=$(CURDIR)/.venv/mutmut nice -n 10 $(BIN)/python -m tests.mutants $(ARGS)

bench: setup-tests
	@set -e; for file in tests/bench/[a-z]*.py; do \
	    echo "== $$file"; $(BIN)/python -m "tests.bench.$$(basename "$$file" .py)"; \
	done

record-model: setup-tests
	@$(BIN)/python -m tests.sandbox.record_model

screenshots: setup-tests
	$(BIN)/python -m tests.page.screenshots screenshots

tapes: setup-tests
	$(BIN)/python -m tests.cli.tapes tapes

picture: setup-tests
	$(BIN)/python -m tests.page.picture docs/page.svg

# Existing pins are kept unless pyproject.toml asks for others; PINS=--upgrade moves them all.
pins:
	$(UV) pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-annotate \
	    --no-header --no-emit-index-url $(PINS) --output-file requirements.txt pyproject.toml
	@{ echo '# Every pinned dependency with its hashes; made from pyproject.toml by `make pins`. Names no index.'; \
	    cat requirements.txt; } > requirements.txt.new && mv requirements.txt.new requirements.txt

clean:
	rm -rf .venv mutants build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
