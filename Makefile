# Every target sets up by itself what it needs: a virtual environment and the pinned packages.
# Pip's own settings (PIP_INDEX_URL, pip.conf ...) are honored.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PORT ?= 8080

.DEFAULT_GOAL := help
.PHONY: help demo test lint serve clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# glibc gives large blocks back to the system at once; keeping them saves 13 % of a training step.
demo: $(VENV)/.installed-app ## train, export, package, serve and edit on generated portraits (CPU, minutes)
	MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=2000000000 $(BIN)/python pipelines/demo.py

# Slow tests start processes of their own: fewer of them at a time.
test: $(VENV)/.installed-dev ## run every test, fast ones first
	$(BIN)/python -m pytest -m "not slow" --numprocesses logical --maxprocesses 4 --dist loadfile
	$(BIN)/python -m pytest -m slow --numprocesses logical --maxprocesses 2 --dist loadfile

lint: $(VENV)/.installed-dev ## format check, lint, strict types, layer contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

serve: $(VENV)/.installed-app ## serve the latest bundle with the gateway on 127.0.0.1:$(PORT) until Ctrl-C
	$(BIN)/python serve/start.py --port $(PORT)

clean: ## remove the virtual environment; outputs/ stays
	rm -rf $(VENV)

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: install it, or name one with 'make PYTHON=/path/to/python3.11 ...'"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old, 3.11 or newer is needed: name one with 'make PYTHON=python3.11 ...'"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "This Python lacks venv: install it (Debian and Ubuntu: apt-get install python3-venv)"; exit 1; }
	@echo "[setup] virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# torch goes first and by itself: the pin then decides between the CPU and the GPU build, not the
# resolver of a package that depends on torch.
$(VENV)/.torch: $(VENV)/.created constraints.txt
	@echo "[setup] torch"
	@$(PIP) torch || { echo "torch could not be installed: check the network and pip's index settings; for a CPU-only build set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels"; exit 1; }
	@touch $@

$(VENV)/.installed-app: $(VENV)/.torch pyproject.toml
	@echo "[setup] training and serving packages, Java runtime"
	@$(PIP) -e '.[train,serve]' || { echo "Installation failed: check the network and pip's index settings, then run make again"; exit 1; }
	@touch $@

# checkov pins older releases of packages that we use. Without it its test is skipped.
$(VENV)/.checkov: $(VENV)/.created tests/unit/k8s/checkov-requirements.txt
	@echo "[setup] checkov, in an environment of its own"
	@$(PYTHON) -m venv $(VENV)/checkov && $(VENV)/checkov/bin/python -m pip install --quiet --disable-pip-version-check -r tests/unit/k8s/checkov-requirements.txt || { rm -rf $(VENV)/checkov; echo "checkov could not be installed: its test will be skipped"; }
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-app $(VENV)/.checkov
	@echo "[setup] test and lint packages"
	@$(PIP) -e '.[dev]' || { echo "Installation failed: check the network and pip's index settings, then run make again"; exit 1; }
	@touch $@
