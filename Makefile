# make serve · make test · make lint · make bench · make pictures
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
NATIVE := $(shell find native -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cmake' -o -name CMakeLists.txt)

.PHONY: serve test lint format bench pictures clean

serve: $(VENV)/.built
	$(BIN)/pixeltier serve

test: $(VENV)/.developing
	$(BIN)/python -m pytest

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(filter %.cpp %.h %.cu,$(NATIVE))

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(filter %.cpp %.h %.cu,$(NATIVE))

bench: $(VENV)/.benching
	$(BIN)/python -m benchmarks.kernels --json benchmarks/results/kernels.json
	$(BIN)/python -m benchmarks.models --json benchmarks/results/models.json

pictures: $(VENV)/.benching
	$(BIN)/python -m benchmarks.pictures --enlarge docs/samples/astronaut.jpg --classify docs/samples/chelsea.jpg

clean:
	rm -rf $(VENV) build

# The extension is built against the torch of this environment, so torch comes first and there is no isolation.
$(VENV)/.built: constraints.txt pyproject.toml $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch numpy scikit-build-core cmake ninja
	$(PIP) --no-build-isolation --editable .
	touch $@

$(VENV)/.developing: $(VENV)/.built
	$(PIP) --no-build-isolation --editable '.[dev]'
	touch $@

$(VENV)/.benching: $(VENV)/.built
	$(PIP) --no-build-isolation --editable '.[bench]'
	touch $@
