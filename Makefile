# Needs Rust, Python 3 with pip and a C++ compiler; libtorch is fetched by `make setup`.
# Afterwards plain cargo works too (always with --release: the dependencies are then built
# once, for the program, the tests and the lints alike).

PYTHON ?= python3
CARGO_FLAGS = --release --locked
PROGRAM = target/release/lorhai
# As `cargo quick-test`: see .cargo/config.toml.
TEST_FLAGS = $(CARGO_FLAGS) --config profile.release.package.lorhai.opt-level=0 --config profile.release.debug=false

# The program is built in target/release, whatever the caller's cargo is set to.
unexport CARGO_TARGET_DIR

.PHONY: help setup standin nvrtc build install dist sweep soak soak-resume soak-workers test test-all needs format-check lint docs docs-check bench bench-gpu bench-growth bench-busy gpu-check gpu-check-standin gpu-test slurm-test family-parity

help:
	@echo "make setup     fetch libtorch, once for all clones (see .cargo/libtorch.py)"
	@echo "make build     build $(PROGRAM)"
	@echo "make install   install it, with its libtorch, below PREFIX (~/.local)"
	@echo "make dist      pack the same as an archive for other machines, below dist/"
	@echo "make sweep     run the LoRA rank sweep on the model in scripts/tiny, into runs/rank-sweep"
	@echo "make test      check formatting and lints, run all tests, check that the reference is up to date"
	@echo "make test-all  the same with the tests that need assets and other programs (see CONTRIBUTING.md)"
	@echo "make soak      search for inputs that end the program, for SOAK seconds (300; 0 for all)"
	@echo "make soak-workers kill random workers of a shared sweep KILLS times (50), and compare how it ends"
	@echo "make soak-resume cut runs and sweeps off CUTS times (50) of each kind, and compare how they end"
	@echo "make family-parity compare families of models with transformers and peft (FAMILIES=llama,qwen3 for some, CASES=12 for more)"
	@echo "make standin   build the stand-in for an NVIDIA GPU that tests use (tests/standin/README.md)"
	@echo "make nvrtc     fetch NVIDIA's compiler of kernels, for the tests that need it"
	@echo "make gpu-check pack what checks a machine with a GPU, without Rust or a network, in eight minutes"
	@echo "make gpu-check-standin the same, checked on the stand-in for a GPU"
	@echo "make gpu-test  check the GPU of this machine"
	@echo "make slurm-test run a sweep in a Slurm of its own, from Debian's packages, without installing them"
	@echo "make docs      generate the function reference"
	@echo "make bench     measure speed and memory; with PEER_PYTHON set, also those of peft"
	@echo "make bench-gpu measure them on a CUDA device, with Qwen2.5's shapes"
	@echo "make bench-busy measure steps beside other programs that want the processors"
	@echo "make bench-growth measure how they grow with rank, length and batch"

# Quick when all is there; checks that cargo and a C++ compiler are, too.
setup:
	@$(PYTHON) .cargo/libtorch.py

# Libraries that stand for a GPU, for tests/standin.rs: about a minute, once.
standin: setup
	@$(PYTHON) .cargo/standin.py

# NVIDIA's compiler of kernels, for tests/native/nvrtc.rs: 90 MB, once. No GPU is needed.
NVRTC = target/nvrtc/nvidia/cu13/lib/libnvrtc.so.13
export NVRTC_LIBRARY ?= $(wildcard $(CURDIR)/$(NVRTC))
nvrtc: $(NVRTC)
$(NVRTC):
	$(PYTHON) -m pip install --no-deps --no-compile --only-binary=:all: --target target/nvrtc "nvidia-cuda-nvrtc==13.0.*"

build: setup
	cargo build $(CARGO_FLAGS)

# The commit goes into `lorhai --version`. Plain builds leave it out: it would rebuild at each commit.
PREFIX ?= $(HOME)/.local
install dist: export LORHAI_COMMIT = $(shell git describe --always --dirty 2>/dev/null)

install: build
	@$(PYTHON) .cargo/place.py "$(PREFIX)"

dist: build
	@$(PYTHON) .cargo/place.py --archive dist

sweep: build
	$(PROGRAM) run scripts/rank_sweep.rhai

# Every test program runs even where one fails, so that one report shows all failures.
test: setup standin format-check lint
	@$(PYTHON) .cargo/test.py $(TEST_FLAGS) --no-fail-fast
	$(PROGRAM) docs --check

# Script bombs, hostile arguments and malformed files, for some minutes (SOAK, in seconds; 0 for all of them).
SOAK ?= 300
soak: setup
	LORHAI_SOAK=$(SOAK) cargo test $(CARGO_FLAGS) --test soak -- --nocapture --test-threads=1

# Runs and sweeps that are killed and stopped at random moments: with LORHAI_ASSETS also those of a pretrained model.
CUTS ?= 50
soak-resume: setup
	LORHAI_CUTS=$(CUTS) cargo test $(CARGO_FLAGS) --test resume -- kills --nocapture --test-threads=1 \
		$(if $(LORHAI_ASSETS),--include-ignored)

# Random workers of a shared sweep, killed at random moments.
KILLS ?= 50
soak-workers: build
	$(PYTHON) tests/shared/kills.py $(PROGRAM) --kills $(KILLS)

# Job arrays in a Slurm of one node with two CPUs (tests/slurm/cluster.py): some minutes. Status 77: no Debian, no network.
slurm-test: setup
	$(PYTHON) tests/slurm/cluster.py cargo test $(TEST_FLAGS) --test slurm -- --ignored --test-threads=1

# Families of models against the transformers and peft of PEER_PYTHON, on random tiny configurations; with LLAMA_PYTHON also
# the names in GGUF files. About a minute and a half for a family with six configurations.
CASES ?= 6
family-parity: setup
	LORHAI_FAMILY_CASES=$(CASES) $(if $(FAMILIES),LORHAI_FAMILIES=$(FAMILIES)) \
		cargo test $(TEST_FLAGS) --test families -- --ignored --nocapture

# What the ignored tests need; those for a GPU have `make gpu-test`, those for Slurm `make slurm-test`.
NEEDS = LORHAI_ASSETS PEER_PYTHON LLAMA_PYTHON TENSORBOARD_PYTHON NVRTC_LIBRARY
MISSING = $(strip $(foreach name,$(NEEDS),$(if $($(name)),,$(name))))

test-all: needs setup standin format-check lint
	@$(PYTHON) .cargo/test.py $(TEST_FLAGS) --no-fail-fast -- --include-ignored --skip on_a_gpu --skip on_slurm
	$(PROGRAM) docs --check

needs:
	@test -z "$(MISSING)" || { echo "error: not set: $(MISSING) (see CONTRIBUTING.md)"; exit 1; }
	@command -v tmux >/dev/null || { echo "error: tmux is not installed"; exit 1; }
	@command -v strace >/dev/null || { echo "error: strace is not installed"; exit 1; }
	@command -v node >/dev/null || { echo "error: node is not installed"; exit 1; }

format-check:
	@cargo fmt --version >/dev/null 2>&1 || \
		{ echo "error: rustfmt is not installed: rustup component add rustfmt"; exit 1; }
	cargo fmt --check

lint: setup
	@clippy-driver --version >/dev/null 2>&1 || \
		{ echo "error: clippy is not installed: rustup component add clippy"; exit 1; }
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/.cargo/lint cargo build $(CARGO_FLAGS) --all-targets

docs: build
	$(PROGRAM) docs

docs-check: build
	$(PROGRAM) docs --check

# PEER_PYTHON names a Python that has torch 2.11, transformers and peft; without it, ours alone.
bench: build
	cargo run $(CARGO_FLAGS) --example bench

bench-gpu: build
	cargo run $(CARGO_FLAGS) --example bench -- --gpu

bench-growth: build
	cargo run $(CARGO_FLAGS) --example bench -- --growth

bench-busy: build
	cargo run $(CARGO_FLAGS) --example bench -- --busy

# What checks lorhai on a machine with a GPU, as an archive for one without Rust (tests/gpu/check.py); here on the
# stand-in; or here on this machine's GPU.
gpu-check: setup
	@$(PYTHON) .cargo/gpu_check.py

gpu-check-standin: setup standin
	@$(PYTHON) .cargo/gpu_check.py --standin

gpu-test: setup
	@$(PYTHON) .cargo/gpu_check.py --run
