# Each target does its own set-up: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# `make test-all DATA=folder` also runs the slow tests and those that need real data sets.
DATA ?=

.PHONY: help install quickstart test test-all lint format clean

help:
	@echo "make quickstart    train and ask a recommender on a built-in world"
	@echo "make test          run the tests (no network, no GPU)"
	@echo "make test-all DATA=folder    run all tests, those on real data sets too"
	@echo "make lint | format check | mend the code's style"

# torch first and alone: a resolver that meets it later may choose a build with gigabytes of CUDA.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[text,retrieval,demo,dev]"
	touch $@

install: $(INSTALLED)

quickstart: $(INSTALLED)
	$(BIN)/llm4rec quickstart --output quickstart --overwrite

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not real_data" --numprocesses 2 --dist loadfile

test-all: $(INSTALLED)
	LLM4REC_DATA="$(abspath $(DATA))" OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info quickstart .pytest_cache .ruff_cache
