# pdinfra on this machine. `make help` lists the targets.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INVENTORY ?= inventories/local

.PHONY: help up down plan status verify doctor test lint lint-python lint-roles docs

help:  ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST)

up: $(VENV)/run  ## Deploy the inventory and prove the service.
	@$(BIN)/python -m pdinfra up --yes -i $(INVENTORY)

down: $(VENV)/run  ## Remove the service's containers; images, model and engine stay.
	@$(BIN)/python -m pdinfra down -i $(INVENTORY)

plan status verify doctor: $(VENV)/run  ## The verb of that name.
	@$(BIN)/python -m pdinfra $@ -i $(INVENTORY)

lint: $(VENV)/dev  ## ruff, mypy, ansible-lint (production profile).
	@$(MAKE) --no-print-directory --output-sync -j 2 lint-roles lint-python

lint-python:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

lint-roles:
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --strict

test: lint  ## Everything: lint, unit tests, the real service on this machine.
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

docs: $(VENV)/dev  ## Generate the role READMEs, the variables' reference and the schema.
	$(BIN)/python docs/generate.py

$(VENV)/run: requirements.txt
	@$(PYTHON) -c '' 2>/dev/null || { echo "pdinfra needs Python 3.11 as '$(PYTHON)'. Fix: install it, or make PYTHON=…" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "→ installing python3-venv"; apt-get install -y -qq python3-venv >/dev/null; }
	@echo "→ Python environment in $(VENV) (once, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
