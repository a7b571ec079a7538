# The front door. `make run` is all a newcomer needs.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
# Where CPU builds of PyTorch are had. Used only on Linux without an NVIDIA GPU, where it saves gigabytes of CUDA packages;
# without one there (TORCH_INDEX=, or the index out of reach) pip takes the build of the default index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
HAS_GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)
TORCH   := $(shell grep '^torch==' requirements.lock)
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed

.PHONY: help install run test faults secrets test-stack soak check up data base fair-play bench bench-gpu fuzz clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(INSTALLED) ## create .venv with exactly the locked versions

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "make: $(PYTHON) is not a Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch ($(if $(HAS_GPU),CUDA,CPU) build where there is one) ..."
ifeq ($(HAS_GPU)$(filter Linux,$(shell uname -s)),Linux)
	$(PIP) $(TORCH) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) --retries 1) || $(PIP) $(TORCH)
else
	$(PIP) $(TORCH)
endif
	@echo "installing everything else ..."
	$(PIP) --constraint requirements.lock --editable '.[dev]'
	@touch $@

run: $(INSTALLED) ## the whole flow on the shipped workbook: minutes on two cores, no GPU (ARGS='--profile seed' for others)
	$(BIN)/pii-finetune run $(ARGS)

test: $(INSTALLED) ## all tests that run without a GPU, but the longest of `make faults` and the containers of `make test-stack`
	$(BIN)/python -m pytest -m "not faults and not stack" $(ARGS)

faults: $(INSTALLED) ## the tests of docs/faults.md, all of them: processes and servers killed, disks full
	$(BIN)/python -m pytest tests/faults tests/integration/test_checkpoints.py $(ARGS)

secrets: ## write .env with strong passwords for the containers of docker-compose.yml; what is there stays
	@$(PYTHON) -m cli.make_secrets

test-stack: $(INSTALLED) ## build the containers with docker or podman, bring them up, try every door, train, load the model
	$(BIN)/python -m pytest tests/stack $(ARGS)

soak: $(INSTALLED) ## thirty runs under random kills of processes and servers
	$(BIN)/python -m benchmarks.soak $(ARGS)

check: $(INSTALLED) ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

up: $(INSTALLED) ## Prefect server, MLflow server, work pool, deployments and a worker; ctrl-C stops all of it
	$(BIN)/python -m cli.stack

data: $(INSTALLED) ## build the workbooks in data/ from the glossaries
	$(BIN)/python -m make_data.workbook

base: $(INSTALLED) ## pretrain data/embedded-base (wants a GPU)
	$(BIN)/python -m make_data.pretrain

fair-play: $(INSTALLED) ## show which phrases of the pretraining text lean most to one answer
	$(BIN)/python -m make_data.fair_play

bench: $(INSTALLED) ## quality of the embedded profile over three seeds; its training and scoring beside TRL's and generate()
	$(BIN)/python -m benchmarks.embedded_quality
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.scoring

bench-gpu: $(INSTALLED) ## training and scoring of the seed profile on a GPU (ARGS='--base FOLDER', or '--shape-only TOKENIZER')
	$(BIN)/python -m benchmarks.training --profile seed --fused-steps 60 --parts steps overlay whole growth $(ARGS)
	$(BIN)/python -m benchmarks.scoring --profile seed --repeat 3 $(ARGS)
	$(BIN)/python -m benchmarks.fast_quality

fuzz: $(INSTALLED) ## read 10,000 mutants of real workbooks: none may crash or hang a reader
	$(BIN)/python -m benchmarks.fuzz_reader

clean: ## remove the environment and what runs left behind, but not mlruns/
	rm -rf $(VENV) outputs .pytest_cache .ruff_cache
