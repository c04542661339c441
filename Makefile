# Commands for users and developers. `make demo` and `make test` install what they need; you only need
# Python >= 3.11, make and git. Folder names may contain spaces.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
RUN = .venv/bin/python
# As in geossl/cli/main.py.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 1000
WORKERS = CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist worksteal

.PHONY: help setup demo check-machine test test-gpu test-fast format check study real downstream maps explorers data bench bench-quick world streams learners notebooks site workshop clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

.venv/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "geossl needs Python >= 3.11, and none is installed. Install it, or run: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up .venv with $(PYTHON): torch is large, this takes some minutes the first time."
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[data,notebooks]'
	@touch $@

.venv/ready-dev: .venv/ready
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[data,notebooks,dev]'
	@touch $@

setup: .venv/ready-dev  ## install everything into .venv, with the tools for developers

demo: .venv/ready  ## run everything on the embedded world; writes runs/demo/index.html
	$(RUN) -m geossl demo

check-machine: .venv/ready  ## check whether this machine is ready
	$(RUN) -m geossl doctor

test: .venv/ready-dev  ## run all tests on the CPU (those of the browser need Chromium)
	$(WORKERS)

test-gpu: .venv/ready-dev  ## run the tests that need a GPU
	$(RUN) -m pytest -q -m gpu

test-fast: .venv/ready-dev  ## run the unit tests, in less than two minutes
	$(WORKERS) -m "not browser and not slow" --ignore tests/browser

format: .venv/ready-dev  ## format the code and fix what can be fixed
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

check: .venv/ready-dev  ## check format, lint, types, stripped notebooks and import directions
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	git ls-files '*.ipynb' | tr '\n' '\0' | xargs -0 -r -n 1 $(RUN) -m nbstripout --verify
	$(RUN) -m pytest -q tests/test_house.py

study: .venv/ready-dev  ## benchmarks/few_labels.md: all methods, three seeds (about half an hour on two idle cores)
	$(RUN) benchmarks/few_labels.py

real: .venv/ready-dev  ## benchmarks/real_imagery.md: NAIP and Landsat, three seeds (geossl fetch naip landsat; an hour and a half)
	$(RUN) benchmarks/real_imagery.py

downstream: .venv/ready-dev  ## benchmarks/downstream.md: EuroSAT, ships, power plants, three seeds (needs ../shared/data)
	$(RUN) benchmarks/downstream.py

explorers: .venv/ready-dev  ## benchmarks/explorers.md: the explorer of up to a million images (needs Chromium)
	$(RUN) benchmarks/explorers.py

maps: .venv/ready-dev  ## benchmarks/maps.md: maps of a thousand to a million locations (needs Chromium)
	$(RUN) benchmarks/maps.py

data: .venv/ready-dev  ## benchmarks/data.md: a million rows described, ten thousand JPEGs decoded
	$(RUN) benchmarks/data.py

.venv/ready-bench: .venv/ready-dev
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[data,notebooks,dev,bench]'
	@touch $@

bench: .venv/ready-bench  ## compare speed, time to quality and growth with other libraries (an hour and a quarter on two idle cores)
	$(RUN) benchmarks/speed.py
	$(RUN) benchmarks/quality.py
	$(RUN) benchmarks/growth.py

bench-quick: .venv/ready-dev  ## time each hot function against a matrix product, in a minute
	$(RUN) benchmarks/quick.py

world: .venv/ready-dev  ## benchmarks/world_study.md: the study at scale; for a GPU; resumes
	$(RUN) benchmarks/world_study.py --build
	$(RUN) benchmarks/world_study.py

streams: .venv/ready-dev  ## benchmarks/streams.md: a store ten times the memory (root for the cgroup; 20 GB of disk)
	$(RUN) benchmarks/streams.py

learners: .venv/ready  ## write copies of the lessons without solutions to lessons/
	$(RUN) -m tools.tutorials learners lessons

notebooks: .venv/ready-dev  ## run every lesson at full size, and compare its computing time with the stated one
	$(RUN) -m tools.tutorials run --output-dir runs/notebooks

site: .venv/ready-dev  ## write runs/site/index.html: the executed lessons, readable without a network
	$(RUN) -m tools.tutorials site

workshop: site  ## write runs/workshop: wheels, lessons and site in a folder that installs without a network
	$(RUN) -m tools.tutorials workshop --site runs/site

clean:  ## remove .venv and runs
	rm -rf .venv runs
