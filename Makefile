# Each target does its own set-up: a bare clone, Python >= 3.11, make and a package index are enough.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test suite check format bench gpu faults samples clean

help:  ## What can be made
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

demo: $(STAMP)  ## Extract the bundled sample, fit, compare: the main job in three minutes
	$(BIN)/python -m probe extract --backbone pixels fashion-sample
	$(BIN)/python -m probe fit logreg
	$(BIN)/python -m probe extract --backbone efficientnet-lite0 fashion-sample
	$(BIN)/python -m probe fit logreg
	$(BIN)/python -m probe compare latest:1 latest:2
	$(BIN)/python -m probe report latest:1 latest:2 -o data/report.html
	$(BIN)/python -m probe survey fashion-sample --backbones pixels,efficientnet-lite0 --figure data/survey.svg
	$(BIN)/python -m probe survey fashion-sample --backbones pixels,efficientnet-lite0 --quiet --markdown > data/survey.md
	$(BIN)/python -m probe stores ls
	$(BIN)/python -m probe runs ls
	@echo "the survey: its table is data/survey.md, its figure data/survey.svg"
	@echo "the report, to be opened in a browser: data/report.html"

check: $(STAMP)  ## Lint, format and types, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(STAMP)  ## Lint, types and the whole test suite, side by side; a file at a time on each of two cores
	@$(MAKE) --no-print-directory --jobs=2 check suite

suite: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

format: $(STAMP)  ## Rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Measure: interleaved pairs, medians, ratios, written to bench/results/
	$(BIN)/python -m bench

gpu: $(STAMP)  ## On a machine with GPUs: check them against the CPU, measure, print a table
	$(BIN)/python -m pip install --quiet -e '.[gpu]'
	$(BIN)/python -m bench.gpu

faults: $(STAMP)  ## Kill, break and damage at every step, and print what came of it
	$(BIN)/python -m bench.faults

samples: $(STAMP)  ## Rebuild the bundled sample from the Debian package dataset-fashion-mnist
	$(BIN)/python data/samples/make_fashion_sample.py

clean:  ## Remove the environment and caches; data/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
