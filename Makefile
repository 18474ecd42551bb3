# Everything from a clean clone:  make report   or   make test   (GNU make, Python >= 3.11)

PYTHON  ?= python3
PROFILE ?= nano
# yes: the experiments run, too; full: in the sizes of which results are kept
EXPERIMENTS ?= no
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
TESTED  := $(VENV)/.installed-test
PIP     := $(BIN)/python -m pip --disable-pip-version-check

# apt names of what typesets Chinese and English, by XeLaTeX and (the font) by Typst
SYSTEM_PACKAGES := texlive-xetex texlive-lang-chinese texlive-latex-recommended texlive-fonts-recommended \
                   lmodern latexmk fonts-noto-cjk
APT_INSTALL := apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends
RUN_ARGS = $(if $(SET),--set $(SET)) $(if $(filter-out no,$(EXPERIMENTS)),--experiments $(filter full,$(EXPERIMENTS))) $(ARGS)
# true where all of it works, whatever way it was installed
TYPESETTING := { command -v xelatex && command -v latexmk && kpsewhich ctexart.cls lmodern.sty pzdr.tfm && \
                 { fc-list | grep "Noto Serif CJK SC" || ls /usr/share/fonts/opentype/noto/NotoSerifCJK*; }; \
               } >/dev/null 2>&1
# tests run beside each other, those of a file in one process, which may take 2 GiB
BESIDE := -n logical --maxprocesses 4 --dist loadfile
# notebooks/conftest.py says which of them wait for each other
NBVAL := --nbval --nbval-cell-timeout=600
# nothing random or local slips into stored outputs
NOTEBOOK_ENV := TQDM_DISABLE=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

# a path from here, whatever folder a notebook's kernel works in
ifdef RLHF_HW_REAL_DATA
export RLHF_HW_REAL_DATA := $(abspath $(RLHF_HW_REAL_DATA))
endif

# what notebooks, runner and report leave in the folder of a run; all else in runs/ is somebody's own
MADE := base reward_model reward_model-* sft sft-* dpo dpo-* dpo_settings hard learning_curve logs scores kept fig \
        length_bias length_policies length_answers.json many_replies variant_policies variant_answers.json tables metrics \
        metrics.json run.json notebooks report

.DEFAULT_GOAL := help
.PHONY: help setup setup-test system report run test test-full lint unit nbval coverage base-model data notebooks house publish lock clean
.DELETE_ON_ERROR:

help:  ## show this list
	@echo "make <target> [PROFILE=nano] [EXPERIMENTS=yes|full] [SET=\"notebook.key=value ...\"] [ARGS=...] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

report: setup system  ## run the notebooks that are out of date, then build the report (PDF and HTML, two languages)
	$(BIN)/rlhf-hw run --profile "$(PROFILE)" $(RUN_ARGS)
	$(BIN)/rlhf-hw report --profile "$(PROFILE)" $(REPORT_ARGS)

run: setup  ## only the notebooks
	$(BIN)/rlhf-hw run --profile "$(PROFILE)" $(RUN_ARGS)

# in one pool, so that no processor waits for the last test of a part
test: lint  ## lint, unit tests, and every notebook against its stored outputs
	rm -rf runs/smoke
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests notebooks $(NBVAL) $(BESIDE) $(ARGS)

# each promise of docs/reliability.md as often as it is held to; about an hour on two cores
test-full: setup-test lint nbval  ## all tests, with those that take long: hostile input, kills, several processes
	RLHF_HW_FULL=1 RLHF_HW_CASES=400 RLHF_HW_KILLS=8 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests $(ARGS)

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: setup-test
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests $(BESIDE) $(ARGS)

nbval: setup-test
	rm -rf runs/smoke
	$(BIN)/python -m pytest notebooks $(NBVAL) $(BESIDE)

setup: $(STAMP)  ## make .venv and install the pinned packages

setup-test: $(TESTED)

# A directory is no proof of a working environment: an interrupted build leaves one behind.
# torch first: whatever build satisfies the version (a CPU wheel at hand, say) then stays in use.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not: make ... PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { [ "$$(id -u)" = 0 ] && $(APT_INSTALL) python3-venv >/dev/null 2>&1 && \
	    $(PYTHON) -m venv --clear $(VENV); } || { \
	  echo "Python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "installing the pinned packages into $(VENV); this takes some minutes"
	@$(PIP) install "$$(grep '^torch==' requirements.lock)"
	@$(PIP) install --quiet --quiet --constraint requirements.lock --editable .
	@touch $@

$(TESTED): $(STAMP)
	@$(PIP) install --quiet --quiet --constraint requirements.lock --editable '.[test]'
	@touch $@

system:  ## install TeX and a Chinese font (Debian, as root), or name what is missing
	@$(TYPESETTING) && exit 0; \
	if [ -f /etc/debian_version ] && [ "$$(id -u)" = 0 ]; then \
	  echo "installing $(SYSTEM_PACKAGES)"; \
	  ( $(APT_INSTALL) $(SYSTEM_PACKAGES) ) >/dev/null 2>&1; \
	  $(TYPESETTING) && exit 0; \
	fi; \
	echo "not all there for typesetting; the report uses what is. To complete it, install (Debian names):" \
	  "$(SYSTEM_PACKAGES)"

base-model: setup  ## rebuild the embedded base model (about an hour on two cores); notebook 00 shows its quality
	$(BIN)/python -m rlhf_hw.training.base_model $(ARGS)

data: setup  ## rebuild the embedded data set from its seed
	$(BIN)/python -m rlhf_hw.world.build --out data/nano --hard data/hard $(ARGS)

notebooks: setup-test  ## run the notebooks at their defaults and store their outputs, for nbval
	rm -rf runs/smoke
	for notebook in notebooks/*.ipynb; do \
	  $(NOTEBOOK_ENV) $(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level=WARN \
	    --KernelManager.transport_encryption=auto \
	    --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.timeout=600 "$$notebook" || exit 1; \
	done
	$(BIN)/python -m pytest -q tests/test_notebooks.py

coverage: setup  ## simulate how often the intervals hold the truth, into docs/statistics.md (minutes)
	$(BIN)/python -m rlhf_hw.stats.coverage docs/statistics.md

house: setup  ## draw the rooms of the library and their imports (fig/house.png), print sizes
	$(BIN)/python -m rlhf_hw.figures.house

publish: setup  ## copy the figures and reports of the default run to fig/ and report/; keep its experiments
	@test -f runs/nano/metrics.json || { echo "no finished run in runs/nano: make report first"; exit 1; }
	$(BIN)/rlhf-hw keep
	mkdir -p fig && cp runs/nano/fig/*.png runs/nano/fig/*.pdf fig/
	$(BIN)/python -m rlhf_hw.figures.diagrams
	$(BIN)/python -m rlhf_hw.figures.house
	cp runs/nano/report/report.*.pdf report/

lock: setup-test  ## write requirements.lock from what is installed
	@head -3 requirements.lock > requirements.lock.new
	@$(PIP) freeze --all --exclude-editable | grep -viE '^(pip|nvidia|cuda|triton)|@' | sed 's/+[a-z0-9.]*$$//' \
	  >> requirements.lock.new && mv requirements.lock.new requirements.lock

clean:  ## remove caches and what runs made (the environment stays; rm -r .venv removes it)
	rm -rf build/lib build/bdist.* report/build .pytest_cache .ruff_cache rlhf_hw.egg-info
	find rlhf_hw tests notebooks benchmarks -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	  -prune -exec rm -rf {} +
	rm -f runs/cache/reference-*.npy runs/cache/.reference-*.partial
	@for run in runs/*/; do if [ -d "$$run/fig" ]; then (cd "$$run" && rm -rf $(MADE)); fi; done
	@rmdir build runs/*/ runs 2>/dev/null; \
	if [ -d runs ]; then echo "left in runs/, because no run of a profile made it:"; find runs -mindepth 2 -maxdepth 2; fi
