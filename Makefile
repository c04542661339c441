# What one types. `make demo` and `make test` set themselves up; nothing else is needed but
# Python >= 3.11, make and git. Works in a folder whose name has spaces.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
RUN = .venv/bin/python
# Idle threads that spin cost up to 4x on a busy machine; this has to be set before torch loads.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help setup demo check-machine test test-gpu test-fast format check study real downstream maps data bench bench-quick world streams learners notebooks site workshop clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

.venv/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "geossl needs Python >= 3.11, and none was found; install it, or run: make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up .venv with $(PYTHON): torch is large, this takes some minutes the first time."
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[data,notebooks]'
	@touch $@

.venv/ready-dev: .venv/ready
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[data,notebooks,dev]'
	@touch $@

setup: .venv/ready-dev  ## make .venv with everything, the developer's tools too

demo: .venv/ready  ## the main job on the embedded data; ends with runs/demo/index.html
	$(RUN) -m geossl demo

check-machine: .venv/ready  ## is this machine ready?
	$(RUN) -m geossl check

test: .venv/ready-dev  ## all tests, on the CPU (the browser's are skipped without Chromium)
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist worksteal

test-gpu: .venv/ready-dev  ## those that need a GPU
	$(RUN) -m pytest -q -m gpu

test-fast: .venv/ready-dev  ## the unit tests
	$(RUN) -m pytest -q -m "not browser and not slow" --ignore tests/browser

format: .venv/ready-dev  ## format and mend what can be mended
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

check: .venv/ready-dev  ## formatter, linter, types, stripped notebooks, import direction
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	git ls-files '*.ipynb' | tr '\n' '\0' | xargs -0 -r -n 1 $(RUN) -m nbstripout --verify
	$(RUN) -m pytest -q tests/test_house.py

study: .venv/ready-dev  ## benchmarks/blue_marble.md: all methods, three seeds (about half an hour on two idle cores)
	$(RUN) benchmarks/blue_marble.py

real: .venv/ready-dev  ## benchmarks/real_imagery.md: NAIP and Landsat, three seeds (geossl fetch naip landsat)
	$(RUN) benchmarks/real_imagery.py

downstream: .venv/ready-dev  ## benchmarks/downstream.md: EuroSAT, ships, power plants, three seeds (needs ../shared/data)
	$(RUN) benchmarks/downstream.py

maps: .venv/ready-dev  ## benchmarks/maps.md: maps of a thousand to a million places (needs Chromium)
	$(RUN) benchmarks/maps.py

data: .venv/ready-dev  ## benchmarks/data.md: a million rows described, ten thousand JPEGs decoded
	$(RUN) benchmarks/data.py

.venv/ready-bench: .venv/ready-dev
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[data,notebooks,dev,bench]'
	@touch $@

bench: .venv/ready-bench  ## speed, time to quality and growth beside what people use (an hour and a quarter on two idle cores)
	$(RUN) benchmarks/speed.py
	$(RUN) benchmarks/quality.py
	$(RUN) benchmarks/growth.py

bench-quick: .venv/ready-dev  ## each hot function beside a matrix product, in a minute
	$(RUN) benchmarks/quick.py

world: .venv/ready-dev  ## benchmarks/world_study.md: the study at scale; for a GPU; stops and goes on
	$(RUN) benchmarks/world_study.py --build
	$(RUN) benchmarks/world_study.py

streams: .venv/ready-dev  ## benchmarks/streams.md: a store ten times the memory (root for the cgroup; 20 GB of disk)
	$(RUN) benchmarks/streams.py

learners: .venv/ready  ## the learner's copies of the lessons, without solutions, in lessons/
	$(RUN) -m tools.tutorials learners lessons

notebooks: .venv/ready-dev  ## every lesson at full size: computing time beside the stated one
	$(RUN) -m tools.tutorials run --output-dir runs/notebooks

site: .venv/ready-dev  ## runs/site/index.html: the lessons executed, readable without a network
	$(RUN) -m tools.tutorials site

workshop: site  ## runs/workshop: wheels, lessons and site in one folder that installs without a network
	$(RUN) -m tools.tutorials workshop --site runs/site

clean:  ## remove .venv and runs
	rm -rf .venv runs
