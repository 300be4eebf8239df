# Every target makes what it needs first; a fresh machine needs only Python and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUT ?= draem-demo
FUZZ_INPUTS ?= 100000
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo test slow fuzz check docs bench faults warm-start hooks clean

$(VENV)/.train: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train]'
	touch $@

$(VENV)/.dev: $(VENV)/.train
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,dev,docs]'
	touch $@

demo: $(VENV)/.train
	$(BIN)/draem demo --out $(DEMO_OUT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,dev,fuzz]'
	$(BIN)/python -m fuzz --inputs $(FUZZ_INPUTS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

docs: $(VENV)/.dev
	$(BIN)/python docs/options.py
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/cache.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/batching.py
	$(BIN)/python benchmarks/folder.py
	$(BIN)/python benchmarks/tiling.py
	$(BIN)/python benchmarks/time_to_quality.py
	$(BIN)/python benchmarks/performance.py

faults: $(VENV)/.dev
	$(BIN)/python benchmarks/faults.py

warm-start: $(VENV)/.train
	$(BIN)/python pretraining/pretrain.py

hooks: $(VENV)/.dev
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) $(DEMO_OUT) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage*
