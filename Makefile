# Every target sets up .venv by itself; it is made once and again when the requirements change.
PYTHON ?= python3.11
BIN := .venv/bin
EXTRAS := diffusers,report,eval,train,arviz,docs,dev

.PHONY: demo test lint docs bench clean

demo: .venv/ready
	$(BIN)/multidrift demo --out out

test: lint
	$(BIN)/pytest -n 2

lint: .venv/ready
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

docs: .venv/ready
	$(BIN)/mkdocs build --quiet

bench: .venv/ready
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv out site

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@
