# `make` prints what there is. Set-up runs once: its stamps lie in .local/state.
SHELL := /bin/sh
.DEFAULT_GOAL := help

STATE := .local/state
IDENTITY ?= dev
KEY ?= backup.key
T ?=
ARGS ?=

# Debian's own interpreter is 20 % faster than one built without PGO, so look there before the shims.
PYTHON := $(firstword $(wildcard /usr/bin/python3.11 /usr/local/bin/python3.11 /opt/homebrew/bin/python3.11) \
	$(shell command -v python3.11 2>/dev/null) 3.11)
UV := $(shell command -v uv 2>/dev/null || echo .local/uv/bin/uv)
RUN = $(UV) run --no-sync --python $(PYTHON)

PROTOS := $(shell find protos -name '*.proto' 2>/dev/null)
PACKAGES := $(wildcard pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml gateway/pyproject.toml \
	deploy/local/pyproject.toml)
WEB := $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -type f -print 2>/dev/null)

help: ## Print this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STATE)/python $(STATE)/protos $(STATE)/web ## Everything that the other targets need; runs once

run: setup ## The whole platform on this machine (IDENTITY=keycloak for the real one, ARGS=--no-demo, BACKUP_KEY=file)
	@exec $(RUN) python -m local_platform run --identity $(IDENTITY) $(ARGS)

test: setup ## All tests (T=path for some)
	$(RUN) $(if $(T),pytest $(T),python -m crmkit.testing.everything)

lint: setup ## Style, types, protos, import rules, migrations, the web client
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint-rules lint-types lint-web lint-parts

lint-rules:
	$(RUN) ruff check --output-format concise
	$(RUN) ruff format --check
	$(RUN) python -m crmkit.lint
	$(RUN) lint-imports --no-cache
	$(RUN) buf lint libs/crmprotos/crmprotos/written.binpb
	$(RUN) python -m crmprotos.breaking

lint-types:
	$(RUN) pyright

lint-web:
	cd web && npm run --silent lint && npm run --silent typecheck

# What is generated is fresh, and migrations give the tables of the models: found on a real PostgreSQL.
lint-parts:
	$(RUN) python -m gateway openapi --check
	$(RUN) python -m crmkit.testing.migrations

fmt: $(STATE)/python ## Format the code
	$(RUN) ruff check --fix
	$(RUN) ruff format

proto: $(STATE)/python ## Generate code from protos/ now
	$(RUN) python -m crmprotos.build
	@mkdir -p $(STATE) && touch $(STATE)/protos

e2e: setup ## Business stories over HTTP on the whole platform
	$(RUN) pytest tests/e2e $(T)

fuzz: setup ## Generated requests to every operation (FUZZ_EXAMPLES=5 of each)
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),5) $(RUN) pytest tests/e2e/test_whatever_is_sent.py

browser: setup ## The same stories through the web client
	$(RUN) pytest tests/browser $(T)

matrix: setup ## Write docs/access-matrix.csv: what each role may do with every operation
	$(RUN) python -m crmkit.testing.matrix

capabilities: setup ## Which test proves which capability
	$(RUN) python -m crmkit.capabilities

bench: setup ## Figures under load
	$(RUN) python -m tests.load $(ARGS)

chaos: setup ## Figures under faults
	$(RUN) python -m tests.chaos $(ARGS)

chart: setup .local/bin/helm ## Check the Helm chart, what it renders, and the rules of observability
	$(RUN) pytest deploy/helm deploy/observability $(T)

sbom: setup ## What the image is made of, as CycloneDX: .local/sbom.json
	$(RUN) python deploy/supply.py > .local/sbom.json

backup: setup ## Back the running platform up (the first time: make backup-key KEY=/elsewhere/backup.key)
	$(RUN) python -m local_platform.backup create $(ARGS)

backup-key: setup ## Make the key that opens the backups, in a file that you keep elsewhere
	$(RUN) python -m local_platform.backup key --key $(KEY)

restore: setup ## Put a backup in place: KEY=file ARGS="BK… --confirmed-by One Another"
	$(RUN) python -m local_platform.backup restore --key $(KEY) $(ARGS)

restore-drill: setup ## Restore the newest backup into fresh servers and compare: KEY=file
	$(RUN) python -m local_platform.backup drill --key $(KEY) $(ARGS)

secrets: $(STATE)/python ## Write .env, the passwords that compose.yaml and the chart read
	$(RUN) python deploy/passwords.py .env

image: ## Build the image guanxi/crm (BUILDER=podman, BASE=debootstrap where no registry can be reached)
	BUILDER=$(BUILDER) BASE=$(BASE) sh deploy/image.sh

docs: setup ## Generate the reference pages
	$(RUN) python -m crmkit.docs

clean: ## Remove set-up and build output, keep the data
	rm -rf $(STATE) .venv web/node_modules web/dist

$(STATE)/python: $(PACKAGES) uv.lock | $(UV)
	$(UV) sync --all-packages --frozen --python $(PYTHON)
	@mkdir -p $(STATE) && touch $@

$(STATE)/protos: $(STATE)/python $(PROTOS) $(wildcard libs/crmprotos/crmprotos/*.py)
	$(RUN) python -m crmprotos.build
	@touch $@

$(STATE)/web: $(WEB)
	@if [ -f web/package.json ]; then cd web && npm ci --no-audit --no-fund && npm run build; fi
	@mkdir -p $(STATE) && touch $@

# Built at one version, because a chart renders differently with another.
.local/bin/helm:
	GOBIN=$(abspath $(@D)) go install helm.sh/helm/v3/cmd/helm@v3.22.0

.local/uv/bin/uv:
	@sh deploy/local/install_uv.sh

.PHONY: sbom backup backup-key restore restore-drill help setup run test matrix lint lint-rules lint-types lint-web lint-parts fmt proto e2e browser capabilities bench chaos chart secrets image docs clean
