# make demo: both tables from nothing.  make test: the tests.  make help: the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := $(CURDIR)/.venv/bin
# Rules call `python`: let them find this environment's, and nothing of the user's site.
RUN := env -u PYTHONPATH PATH="$(BIN):$(PATH)" PYTHONNOUSERSITE=1
CORES ?= all
# cpu: PyTorch's own CPU builds, which the hashes of PyPI's files cannot cover, and none of CUDA's packages. Of a new .venv.
TORCH ?= cuda
CPU_INDEX := https://download.pytorch.org/whl/cpu
CPU_BUILDS = $(shell sed -nE 's/^(torch|torchvision)(==[^ ;]*).*/\1\2/p' requirements-torch.lock)
# Compiled on all cores afterwards, which pip does on one. Not left to the first import: many a container forbids that one to write
# (PYTHONDONTWRITEBYTECODE), and then every start of Snakemake and of a job compiles a thousand modules anew.
QUIET := --quiet --disable-pip-version-check --no-deps --no-compile
# Of the rehearsal: its jobs ask for 15 GB each, so that this much runs them one at a time.
MEM_MB ?= 16000

# The folder as it is given, whatever is in its name: neither make nor a shell reads it, and Snakemake gets it in a file.
unexport COCO
export COCO_FOLDER := $(value COCO)
WRITE_ROOT := mkdir -p .snakemake && "$(BIN)/python" -c 'import json, os; print(json.dumps({"data": {"root": os.path.abspath(os.environ["COCO_FOLDER"])}}))'

REGRESS := --configfile workflow/config/regress.yaml

.PHONY: help demo demo-coco rehearsal test test-slow test-processors test-slurm test-next bench bench-scale regress regress-accept regress-spread reference docs lint format lock clean

help:
	@echo "make demo              draw, train, sample, score: Table 1 and Table 2 of the miniature; TORCH=cpu: without CUDA's packages"
	@echo "make demo-coco COCO=F  the same DAG on a folder in COCO 2014's layout (scores mean nothing there)"
	@echo "make rehearsal COCO=F  full architectures, random weights, four photos of F: proves loading, shapes, memory"
	@echo "make test | test-slow  the tests | those that take minutes"
	@echo "make test-processors   the tests as older processors run them, with one and two threads, beside other work"
	@echo "make test-slurm        the DAG on a SLURM of this machine's own: needs root, installs Debian's packages"
	@echo "make test-next         the evaluation's numbers under the newest scipy, which needs Python 3.12 or 3.13"
	@echo "make bench             speed against the peers, equality checked (after make demo); BENCH=--quick: equality alone"
	@echo "make bench-scale       what the evaluation's numbers take at 30,000 images a row; SCALE='--device cuda': on a GPU"
	@echo "make regress           a small fixed subset, rerun and held against results/reference/miniature.json"
	@echo "make regress-accept REASON=...  its numbers become the reference | regress-spread: measure the tolerances again"
	@echo "make docs              the documentation as a site in docs/_build/html; warnings are errors"
	@echo "make lint | format     ruff, snakefmt, mypy, snakemake --lint, dry run | apply the formatters"

.venv/installed: requirements.lock requirements-torch.lock
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "error: Python 3.11 to 3.13 is needed, found %d.%d; set PYTHON=..." % v)'
	@test "$(TORCH)" = cuda || test "$(TORCH)" = cpu || { echo "error: TORCH is cuda or cpu, found $(TORCH)" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	"$(BIN)/python" -m pip install $(QUIET) --require-hashes -r requirements.lock $(if $(filter cuda,$(TORCH)),-r requirements-torch.lock)
	$(if $(filter cpu,$(TORCH)),"$(BIN)/python" -m pip install $(QUIET) --index-url $(CPU_INDEX) $(CPU_BUILDS))
	"$(BIN)/python" -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true  # one of torch's modules is a newer Python's
	@touch $@

.venv: .venv/installed

demo: .venv/installed
	$(RUN) snakemake --cores $(CORES)
	@cat results/miniature/tables/table1.md; echo; cat results/miniature/tables/table2.md; echo
	@echo "tables: results/miniature/tables/table1.csv table2.csv (also .md, .tex, .json)"
	@echo "panel:  results/miniature/figures/panel.png"
	@echo "page:   results/miniature/report.html (tables, figures, every image; open it from disk)"

demo-coco: .venv/installed
	@test -n "$$COCO_FOLDER" || { echo "error: give the folder in COCO 2014's layout: make demo-coco COCO=/path/to/coco" >&2; exit 1; }
	@$(WRITE_ROOT) > .snakemake/demo-coco.json
	$(RUN) snakemake --cores $(CORES) --configfile workflow/config/coco.yaml .snakemake/demo-coco.json
	@cat results/coco/tables/table1.md; echo; cat results/coco/tables/table2.md

rehearsal: .venv/installed
	@test -n "$$COCO_FOLDER" || { echo "error: give the folder in COCO 2014's layout: make rehearsal COCO=/path/to/coco" >&2; exit 1; }
	@$(WRITE_ROOT) > .snakemake/rehearsal.json
	$(RUN) snakemake --cores $(CORES) --resources mem_mb=$(MEM_MB) --configfile workflow/config/rehearsal.yaml .snakemake/rehearsal.json
	@cat results/rehearsal/tables/table1.md; echo; cat results/rehearsal/tables/table2.md

# Three on two cores: a test that starts Snakemake waits for its jobs.
WORKERS ?= 3
test: .venv/installed
	$(RUN) OMP_NUM_THREADS=1 python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The suite as older processors run it, with one and two threads, and beside other work: some 25 minutes on two cores.
test-processors: .venv/installed
	$(RUN) python -m tests.processors $(TESTS)

test-slow: .venv/installed
	$(RUN) OMP_NUM_THREADS=1 python -m pytest -m slow

# One run of the DAG: make test-slurm TESTS="-k whole_dag"
test-slurm: .venv/installed
	$(RUN) python -m tests.slurm.cluster install
	$(RUN) OMP_NUM_THREADS=1 python -m pytest -m slurm -rs $(TESTS)

# Since scipy 1.18, which the lock does not have, all that calls sqrtm(disp=) fails. No torch here: these tests need none.
NEXT ?= $(firstword $(foreach python,python3.13 python3.12,$(shell $(python) -c 'print("$(python)")' 2>/dev/null)))
test-next:
	@test -n "$(NEXT)" || echo "skipped: no Python 3.12 or 3.13, which scipy 1.18 needs; set NEXT=..."
	$(if $(NEXT),$(NEXT) -m venv .venv-next)
	$(if $(NEXT),.venv-next/bin/python -m pip install --quiet --disable-pip-version-check "scipy>=1.18" numpy pandas pyarrow tabulate pytest)
	$(if $(NEXT),.venv-next/bin/python -m pytest $(addprefix tests/test_evaluation_,frechet.py kernel.py significance.py simulation.py))

# On an idle machine; it says itself when it was not. BENCH=--quick or BENCH="--only features_over_libraries".
bench: .venv/installed
	$(RUN) snakemake results/miniature/methods/hcma.json results/miniature/methods/gligen_sd.json results/miniature/methods/attend_and_excite.json results/miniature/layouts/test.jsonl --cores $(CORES) --quiet all
	$(RUN) python -m workflow.benchmarks peers --gligen results/miniature/methods/gligen_sd.json --hcma results/miniature/methods/hcma.json --excite results/miniature/methods/attend_and_excite.json --layouts results/miniature/layouts/test.jsonl $(BENCH)

# Some half an hour and 7 GB in .bench-scale on two cores; a stage that ended is kept.
bench-scale: .venv/installed
	$(RUN) python -m workflow.benchmarks scale --work .bench-scale $(SCALE)

# Editing a program re-runs nothing by itself: the subset is always made from nothing. On a cluster: make regress ON="--profile profiles/slurm".
ON ?= --cores $(CORES)
regress: .venv/installed
	rm -rf results/regress
	$(RUN) snakemake regress $(ON) $(REGRESS)

regress-accept: .venv/installed
	@test -n "$$REASON" || { echo "error: say why the numbers may change: make regress-accept REASON='...'" >&2; exit 1; }
	rm -rf results/regress
	$(RUN) snakemake accept --cores $(CORES) $(REGRESS)

regress-spread: .venv/installed
	rm -rf results/regress results/regress-*
	$(RUN) python -m workflow.benchmarks regress_spread --cores $(CORES)

# Times a fresh demo and keeps it as results/reference, which the README shows.
reference: .venv/installed
	rm -rf results/miniature
	start=$$(date +%s) && $(MAKE) --no-print-directory demo && $(RUN) python -m workflow.scripts.reference --total-seconds $$(( $$(date +%s) - start ))

# A dead link or a missing page is an error.
docs: .venv/installed
	$(RUN) python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo "site: docs/_build/html/index.html"

lint: .venv/installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check Snakefile workflow/rules
	$(RUN) mypy
	$(RUN) snakemake --lint
	$(RUN) snakemake -n --quiet all --cores 1

format: .venv/installed
	$(RUN) ruff check --fix .
	$(RUN) ruff format .
	$(RUN) snakefmt Snakefile workflow/rules

# Versions move where pyproject.toml asks for it; all of them with UPGRADE=--upgrade.
lock:
	rm -rf .venv-lock
	"$(PYTHON)" -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv==0.13.9
	cat requirements.lock requirements-torch.lock > .venv-lock/resolved
	.venv-lock/bin/uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-annotate $(UPGRADE) -o .venv-lock/resolved
	.venv-lock/bin/python -m workflow.scripts.lock < .venv-lock/resolved
	rm -rf .venv-lock

clean:
	rm -rf results/miniature results/coco results/rehearsal results/regress* .venv-next .bench-scale
