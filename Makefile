# Every target sets up what it needs in .venv, from nothing but python3 (3.11 or 3.12).

# The system's own first: distributions build theirs with profile-guided optimization, and with one
# that was built without it the engine costs a tenth more. PYTHON=/path/to/python takes another.
PYTHON ?= $(shell for p in /usr/bin/python3.12 /usr/bin/python3.11 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import ensurepip, sys, venv; \
	sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# without compiling all of what comes: only a part is ever imported
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
READY := .venv/.ready
DEVELOPER := .venv/.developer
COMPILED := .compiled/.ready

.DEFAULT_GOAL := help
.PHONY: help venv demo test check bench evaluate chaos clean

help:
	@echo "make demo    a made-up shop, the embedded broker and store, the engine, live"
	@echo "make test    everything set up and tested; what takes long with MARKED=slow, all with MARKED="
	@echo "make check   formatting, lint, types"
	@echo "make bench   CPU per event, step by step"
	@echo "make evaluate  models on real logs, beside batch learners"
	@echo "make chaos   kills, freezes, sets back, moves; counts what is wrong after it (KILLS=100)"
	@echo "make venv    only .venv, with the command .venv/bin/afterglow"

venv: $(READY) $(COMPILED)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 with its venv module is needed, but neither python3.11, \
	python3.12 nor a fitting python3 is on the PATH; set PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	@touch $(READY)

# What tests, checks and comparisons need beside it.
$(DEVELOPER): $(READY)
	$(INSTALL) -e '.[dev]'
	@touch $(DEVELOPER)

# Loops are compiled when their sources have changed; all else that a start would compile, too.
$(COMPILED): $(READY) $(wildcard events/*.py state/*.py models/*.py)
	$(BIN)/python -m compileall -q events state models operators dataflows cli serving loadtest
	$(BIN)/python -m dataflows.warm
	@mkdir -p .compiled && touch $(COMPILED)

demo: venv
	$(BIN)/afterglow demo $(DEMO)

# Three processes for two cores, because a third of the time is waiting, each with servers of its own;
# what is slow hurts engines by the clock, one at a time.
MARKED ?= not slow
JOBS ?= $(if $(filter-out slow,$(MARKED)),$(shell $(PYTHON) -c 'import os; print(3 * os.cpu_count() // 2)'),0)
test: venv $(DEVELOPER)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "$(MARKED)" $(TESTS)

check: venv $(DEVELOPER)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: venv $(DEVELOPER)
	$(BIN)/python -m loadtest.bench $(BENCH)

evaluate: venv $(DEVELOPER)
	$(BIN)/python -m loadtest.evaluate $(EVALUATE)

# A real Kafka needs Java and Maven; CHAOS=--embedded does without.
KILLS ?= 10
chaos: venv
	$(BIN)/python -m loadtest.chaos --kills $(KILLS) $(CHAOS)

clean:
	rm -rf .venv .compiled build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
