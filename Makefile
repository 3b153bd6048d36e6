# Every target sets up .venv by itself; it is made once and again when the requirements change.
PYTHON ?= python3.11
BIN := .venv/bin
EXTRAS := diffusers,report,eval,train,arviz,serve,docs,dev

.PHONY: demo test units lint docs bench fuzz faults mutants clean

demo: .venv/ready
	$(BIN)/multidrift demo --out out

# Side by side: mypy alone takes a minute of one core.
test: .venv/ready
	$(MAKE) --no-print-directory --jobs 2 lint units

units: .venv/ready
	$(BIN)/pytest -n 2

lint: .venv/ready
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/python -m benchmarks.readme --check

# Not --quiet: that hides warnings from --strict, too.
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: .venv/ready
	$(BIN)/python -m benchmarks

# Minutes: random settings, damaged files and command lines (CONTRIBUTING.md says what it looks for).
fuzz: .venv/ready
	FUZZ_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/pytest tests/fuzz

# Minutes: processes killed at random points, two writers at once, a full and a read-only disk.
faults: .venv/ready
	FAULTS=$(or $(POINTS),20) $(BIN)/pytest tests/faults

# Hours for all files; MUTANTS='multidrift.methods.multilevel.draws.*' takes those of one. A run that was stopped goes on.
mutants: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[mutants]"
	$(BIN)/mutmut run --max-children 2 $(MUTANTS)
	$(BIN)/mutmut results

clean:
	rm -rf .venv out site mutants

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@
