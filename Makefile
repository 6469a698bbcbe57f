# Two commands: `make demo` runs the default study, tables, figures and report; `make test` runs linters, type checks and
# tests. Both set up .venv first.

PYTHON ?= python3
BIN := .venv/bin
CONFIG ?= config.yaml

# Python keeps compiled modules, also in containers that switch this off.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo protect scan verify progress archive unpack estimate fuzz docs test test-faults test-slurm quick-test lint bench gpu-check lock

demo: .venv/ready
	$(BIN)/snakemake --cores all
	@echo "Open results/reports/digits.html in a browser; the tables are results/tables/digits.*"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Needs root on Debian: installs Slurm if it is missing, starts a cluster of one node for the tests, and takes it down.
test-slurm: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/slurm/run.py

# Kills a study twenty times, and runs all other tests of faults.
test-faults: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/workflow/test_kills.py tests/workflow/test_faults.py --many-kills

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/snakemake --lint

# All tests except those that run Snakemake.
quick-test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not workflow"

# Gives random and hostile inputs to every reader for ten minutes; `make test` has a part of this.
fuzz: .venv/ready
	$(BIN)/python tests/fuzz/fuzzing.py --seconds 600

# Builds the pages as a site, with the Python API; a warning of Sphinx is an error.
docs: .venv/ready
	PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m sphinx -W --keep-going -q -c docs -d build/doctrees . build/docs
	@echo "Open build/docs/index.html in a browser"

# Judges every result of the study or scan: current, stale, damaged or of unknown origin; reads every artifact.
verify: .venv/ready
	PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python workflow/scripts/verify.py --deep --configfile "$(CONFIG)"

# Counts jobs of the study or scan that are done, running, failed and left, with the hours left, also while Snakemake runs;
# WATCH=1 keeps watching.
progress: .venv/ready
	@PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python workflow/scripts/progress.py --configfile "$(CONFIG)" $(if $(WATCH),--watch)

# Makes friendly noise for your own training program: make protect DATA=folder-or-file OUT=noise.safetensors, for images of a
# folder also SIZE=pixels; docs/defend-my-pipeline.md lists the keys of SETTINGS=protect.yaml. THREADS (default: all cores)
# also decides the bits.
protect: .venv/ready
	@PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python workflow/scripts/protect.py --out "$(OUT)" $(if $(DATA),--data "$(DATA)") \
		$(if $(SIZE),--size "$(SIZE)") $(if $(SETTINGS),--configfile "$(SETTINGS)") $(if $(THREADS),--threads "$(THREADS)")

# Finds images that look poisoned: make scan DATA=folder-or-file, for images of a folder also SIZE=pixels; docs/scan-my-data.md
# lists the keys of SETTINGS=scan.yaml. The page is results/scans/<name>/scan.html. Without "./", a path 007 would be a number.
scan: .venv/ready
	@data="$(DATA)"; settings="$(SETTINGS)"; \
	case "$$settings" in "~/"*) settings="$$HOME/$${settings#??}";; esac; \
	test -z "$$settings" || test -f "$$settings" || { echo "error: $$settings is missing: correct SETTINGS" >&2; exit 2; }; \
	case "$$data" in \
		*" #"*|*": "*) echo "error: Snakemake reads DATA=$$data as YAML: write it as data: in a file for SETTINGS" >&2; exit 2;; \
		""|/*|"~"*) ;; \
		*) data="./$$data";; \
	esac; \
	$(BIN)/snakemake scan --cores all $${settings:+--configfile "$$settings"} \
		$(if $(DATA)$(SIZE),--config $${data:+"data=$$data"} $(if $(SIZE),size=$(SIZE)))

# Packs the results and Snakemake's records of them as <study>.tar.gz or scan-<scan>.tar.gz; `make unpack FROM=<study>.tar.gz`
# unpacks them in another checkout.
archive: .venv/ready
	PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python workflow/scripts/archive.py pack --configfile "$(CONFIG)"

unpack: .venv/ready
	@test -n "$(FROM)" || { echo "error: name the archive: make unpack FROM=study.tar.gz" >&2; exit 2; }
	PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python workflow/scripts/archive.py unpack --from "$(FROM)"

# Estimates jobs and hours of a study or scan by similar jobs that ran, and the time and memory to request of a cluster; runs
# nothing.
estimate: .venv/ready
	@PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python workflow/scripts/estimate.py --configfile "$(CONFIG)"

# Measures times and memory against the straightforward way of doing the same, side by side in one run; fails if a ratio is
# worse than the one recorded on this kind of device.
bench: .venv/ready
	PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} KMP_BLOCKTIME=0 $(BIN)/python benchmarks/bench.py

# Seven minutes on a machine with CUDA: faults, bits, every stage, contract tests, times; writes benchmarks/records/<date>-<gpu>.md.
gpu-check: .venv/ready
	PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} KMP_BLOCKTIME=0 $(BIN)/python benchmarks/gpu_check.py

# uv installs exactly the locked files (checked by hash).
.venv/ready: envs/requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==0.13.9"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement envs/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# Rewrite the lock from envs/requirements.in.
lock:
	$(BIN)/python -m pip install --quiet "uv==0.13.9"
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--upgrade --output-file envs/requirements.lock envs/requirements.in
