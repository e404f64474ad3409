PYTHON ?= python3
BIN := .venv/bin
# simulators in environments of their own, if hardware/install.sh made them: .outside/NAME is SPIKING_LFP_NAME_PYTHON
define outside
export SPIKING_LFP_$(shell echo $(1) | tr a-z- A-Z_)_PYTHON ?= $(CURDIR)/.outside/$(1)/bin/python
endef
$(foreach made,$(wildcard .outside/*/complete),$(eval $(call outside,$(notdir $(patsubst %/complete,%,$(made))))))

# the tests start processes by the dozen, and each would compile this package's modules anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test docs hardware-test clean

# train a spiking network on real digits, with pictures, from nothing but Python >= 3.11
demo: .venv/installed
	$(BIN)/spiking-lfp train mnist-mlp --epochs 4

# the whole suite: lint, types, layering, tests, examples, wheel
test: .venv/test-installed
	$(MAKE) --jobs 2 lint suite

.PHONY: lint suite
lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# whole modules go to a worker, in the order of tests/conftest.py; a third worker has the cores while others wait
suite:
	$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder

# the same network everywhere: C, Icarus, Verilator, the bitstream of an FPGA, SANA-FE, brian2-loihi, lava-nc; installs them, or says what it cannot
hardware-test: .venv/test-installed
	PYTHON=$(PYTHON) hardware/install.sh
	$(MAKE) hardware-test-only

.PHONY: hardware-test-only
hardware-test-only:
	SPIKING_LFP_BITSTREAMS=1 $(BIN)/python -m pytest -n 2 --dist loadscope tests/deploy

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/test-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	# what its metrics of spikes and synapses import is there; the rest of its dependencies would be some thirty packages
	$(BIN)/python -m pip install --quiet --no-deps neurobench==2.3.0
	touch $@

# the site, in site/, with tutorials that run meanwhile: every warning, such as a link that leads nowhere, is an error
docs: .venv/docs-installed
	$(BIN)/mkdocs build --quiet --strict

.venv/docs-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .outside build dist site
