# `make demo` and `make test` set up what they need in .venv; nothing outside the checkout is touched.
PYTHON ?= python3
BIN := .venv/bin
DISTRIBUTIONS := . providers/openai providers/fal providers/diffusers providers/autoregressive providers/pocket
READY := .venv/.ready
WORKERS ?= 2

.PHONY: setup demo test lint format bench wheels clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt $(wildcard providers/*/pyproject.toml)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e ".[dev]" $(addprefix -e ./,$(filter-out .,$(DISTRIBUTIONS)))
	touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY) lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-report=term:skip-covered

lint: $(READY)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py

wheels: $(READY)
	for each in $(DISTRIBUTIONS); do $(BIN)/python -m build --quiet --outdir dist $$each || exit 1; done

clean:
	rm -rf .venv dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
