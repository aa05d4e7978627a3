# make demo: virtual environment, installation, SCCS on the embedded volumes, organelles from a few labels, what next.
# make test: the same for the tests, make coverage: with the lines that none runs. make lint: ruff, mypy, order of imports.
# make docs: the site of docs/ in build/docs.
# All use PYTHON (3.10 to 3.12) and leave everything in .venv and runs/.

PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
TORCH := $(shell grep '^torch==' constraints.txt | cut -d';' -f1)
PIP := $(VENV)/bin/python -m pip install --quiet -c constraints.txt

.PHONY: demo test coverage lint docs viewer clean

demo: $(VENV)/.demo
	$(VENV)/bin/sccs run recipes/sccs.yaml --out $(OUT)
	$(VENV)/bin/python -m benchmarks.demo $(OUT)

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest $(PYTEST)

# Twice as long, for the lines that no test runs.
coverage: $(VENV)/.test
	$(VENV)/bin/python -m pytest --cov --cov-report=term:skip-covered $(PYTEST)

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check --quiet --output-format concise .
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/lint-imports --no-logo

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build  # --quiet would let dead links pass
	@echo "documentation: $(abspath build/docs/index.html)"

# PyTorch first and alone: its version decides which wheels of the rest fit.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13) and "Python 3.10 to 3.12 is needed: make PYTHON=...")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) pip setuptools wheel
	$(PIP) $(TORCH)
	@touch $@

# Editable: what is changed in the checkout is what runs.
$(VENV)/.demo: $(VENV)/.torch setup.cfg
	$(PIP) --editable '.[cpu,all]'
	@touch $@

$(VENV)/.test: $(VENV)/.torch setup.cfg
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.lint: $(VENV)/.test
	$(PIP) --editable '.[lint]'
	@touch $@

# For the tests that open a napari window, and that of the BioImage package: Qt and more, so not part of `test`.
viewer: $(VENV)/.viewer

$(VENV)/.viewer: $(VENV)/.test
	$(PIP) --editable '.[napari,bioimage]' 'napari[pyside6]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis
