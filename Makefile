# Two commands are all a newcomer needs: `make demo` and `make test`. Everything else is a part of one of them.
.DEFAULT_GOAL := help
.SHELLFLAGS := -euo pipefail -c
SHELL := bash
BIN := .venv/bin
SCENARIO ?=

.PHONY: help setup demo demo-shell demo-down test test-long lint unit sanity molecule test-faults test-backup-faults lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## install what this machine lacks, and the pinned requirements into .venv
	@tools/setup

demo: setup ## build a practice of real machines and do the whole job on it
	@demo/run up

demo-shell: ## a shell on a demo host: make demo-shell HOST=server1
	@demo/run shell $(HOST)

demo-down: ## remove every trace of the demo's machines
	@demo/run down

test: setup ## run every check that fits into half an hour
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint unit sanity
	@$(MAKE) --no-print-directory molecule
	@echo "make test: all checks passed"

test-long: setup ## every scenario on real machines, whole; an hour or more
	@tools/molecule --long

lint: setup ## ruff, mypy, ansible-lint
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary -p ansible_collections.holdfast.practice.plugins -p ansible_collections.holdfast.practice.demo
	@ANSIBLE_INVENTORY_ENABLED=host_list ANSIBLE_INVENTORY_UNPARSED_FAILED=false PATH="$(CURDIR)/$(BIN):$$PATH" \
	  ANSIBLE_VAULT_IDENTITY_LIST=ups-kinds@$(CURDIR)/molecule/ups_kinds/vars/vault-password \
	  $(BIN)/ansible-lint --strict --offline -q

unit: setup ## tests that need no host
	@$(BIN)/pytest -q

sanity: setup ## ansible-test sanity on the committed state
	@tools/sanity

molecule: setup ## scenarios on real machines: those of `make test`, or SCENARIO=name
	@tools/molecule $(SCENARIO)

test-faults: setup ## every fault that a proof has to catch and the power to stand, on real machines; not part of `make test`
	@tools/molecule --faults

test-backup-faults: setup ## every fault that a backup has to stand on its way, on real machines; not part of `make test`
	@tools/molecule --practice-faults backup gate schedule

lock: setup ## pin requirements.in anew
	@$(BIN)/uv pip compile --universal --python $(BIN)/python --python-version 3.12 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate -q --upgrade requirements.in -o requirements.txt

clean: ## remove the virtualenv and caches of this checkout
	@rm -rf .venv .ansible .mypy_cache .pytest_cache .ruff_cache tests/output
