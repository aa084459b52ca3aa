# Retail Stream: `make` alone lists the commands. Needs Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
PEERS := $(VENV)/peers

.DEFAULT_GOAL := help
.PHONY: bench-containers help doctor demo test chaos test-all test-embedded test-containers test-images up bench bench-cleaner bench-scd bench-windows bench-generator bench-year setup lint lock kernels clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 26

doctor: ## what this machine lacks for the commands below, and for docker compose up
	@$(PYTHON) -m commands.doctor

demo: setup ## the whole pipeline for DEMO_SECONDS (60) of traffic, verified, with queries of the warehouse
	@$(BIN)/retail-stream demo

# More workers than cores, as much of a test is waiting: for servers that start, for a group to miss a member.
# A file that needs servers stays in one worker, and the longest begin first (tests/conftest.py).
TEST_WORKERS ?= 3
PARALLEL := --no-loadscope-reorder --durations 25 --durations-min 1

test: setup ## the tests but the long ones, about ten minutes; tests/README.md says how to run one
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) $(PARALLEL) -m "not long" $(PYTEST_ARGS)

test-all: setup ## every test: the long ones, too, and those on containers if a Docker daemon answers
	@tests/everything

chaos: setup ## faults under load for CHAOS_SECONDS (600), in the order of CHAOS_SEED; then verify; the longest pauses
	@CHAOS_SECONDS=$${CHAOS_SECONDS:-600} $(BIN)/python -m pytest -s -q tests/system/test_chaos.py $(PYTEST_ARGS)

# What test-all runs without Docker. LONG_TESTS=1/6 to 6/6: with a sixth of the long tests only, as in CI.
test-embedded: setup
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) $(PARALLEL) $(if $(LONG_TESTS),--long-turn $(LONG_TESTS)) $(PYTEST_ARGS)

# tests/conftest.py leaves out what is about the embedded servers. test-all gives a shorter list.
CONTAINER_TESTS := tests/compose tests/integration

test-containers: test-images ## docker-compose.yml as a whole, and the tests of integration on its servers
	@RETAIL_STREAM_TEST_SERVERS=containers $(BIN)/python -m pytest $(PARALLEL) $(CONTAINER_TESTS) $(PYTEST_ARGS)

# Before any test looks at the clock. The servers' images are pulled where this machine has none of that tag.
test-images: setup
	@RETAIL_STREAM_IMAGES=retail-stream docker compose --profile tools build --quiet
	@docker compose pull --quiet --policy missing --ignore-buildable kafka postgres registry

up: setup ## the pipeline until Ctrl-C, without Docker
	@$(BIN)/retail-stream up

bench: setup ## the benchmarks, as ratios measured in one run
	@$(BIN)/python -m benchmarks

bench-cleaner: setup $(PEERS)/.set-up ## the cleaner against other engines at the same job; its latency and memory
	@$(BIN)/python -m benchmarks cleaner cleaner-kinds cleaner-latency cleaner-memory cleaner-backlogs

bench-scd: setup $(PEERS)/.set-up ## the merger against other ways to SCD type 2; long histories; constraints
	@$(BIN)/python -m benchmarks scd scd-history scd-constraints

bench-windows: setup $(PEERS)/.set-up ## the aggregator against other engines' windows; facts; publish to visible
	@$(BIN)/python -m benchmarks windows windows-facts windows-open windows-latency windows-rises windows-declared

bench-containers: setup ## docker compose up: how long until healthy, memory, sizes; are images reproducible?
	@$(BIN)/python -m benchmarks containers

bench-generator: setup ## the generator: its rate beside a bare loop and Kafka's own tool; its pace; the same seed twice
	@$(BIN)/python -m benchmarks generator generator-pace generator-same

bench-year: setup ## a year of data beside a day: rate, restart, claim, status, the documented queries, two replicas
	@$(BIN)/python -m benchmarks year

setup: $(SETUP) ## a virtual environment in .venv with the locked dependencies; the servers' downloads

lint: setup ## formatting, lint, types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy --strict commands retail_stream services && $(BIN)/mypy benchmarks tests

lock: setup ## resolve requirements.lock anew from pyproject.toml, its part for the images, and the benchmarks' peers
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --all-extras pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header -c requirements.lock --excludes docker/not-in-images.txt pyproject.toml -o services.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header benchmarks/peers/requirements.in -o benchmarks/peers/requirements.lock

# Every retail_stream/**/passes.c becomes the passes.wasm beside it. One version of ziglang gives the same bytes everywhere.
KERNELS := $(wildcard retail_stream/*/*.c retail_stream/*/*/*.c)
KERNEL_FLAGS := -target wasm32-freestanding -mcpu=generic+bulk_memory+simd128 -std=c11 -O3 -g0 -Wall -Wextra -Werror \
	-nostdlib -fvisibility=hidden -I retail_stream/wasm \
	-Wl,--no-entry -Wl,--export-dynamic -Wl,--export=__heap_base -Wl,--strip-all

kernels: setup ## compile the C passes to WebAssembly anew; the .wasm files are committed, so only contributors need it
	@for source in $(KERNELS); do $(BIN)/python -m ziglang cc $(KERNEL_FLAGS) -o $${source%.c}.wasm $$source \
		&& chmod 644 $${source%.c}.wasm || exit 1; done

clean: ## remove the virtual environment and caches (servers' state: retail-stream infra --reset)
	@rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache *.egg-info

# uv comes first, by its own hash; it installs everything else by the hashes of requirements.lock.
$(SETUP): requirements.lock bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, $(PYTHON) is " + sys.version.split()[0] + "; choose one with: make PYTHON=python3.12")'
	@echo "Setting up $(VENV) (once, a minute or two) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r bootstrap.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@$(BIN)/python -m commands.embedded
	@touch $@

# The other engines have an environment of their own, so that only the benchmarks install them.
$(PEERS)/.set-up: benchmarks/peers/requirements.lock $(SETUP)
	@echo "Setting up $(PEERS) (once) ..."
	@$(PYTHON) -m venv $(PEERS)
	@VIRTUAL_ENV=$(PEERS) $(BIN)/uv pip install -q --require-hashes -r benchmarks/peers/requirements.lock
	@touch $@
