# make serve · make test · make lint · make bench · make pictures · make docs · make image-test · make ray-test
# make audit · make sbom · make fuzz
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
NATIVE := $(shell find native -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cmake' -o -name CMakeLists.txt)

.PHONY: docs image-test ray-test audit sbom fuzz
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

# The documentation as a site, in build/site.
docs: $(VENV)/.developing
	$(BIN)/mkdocs build --strict

# The Dockerfile built and run without an engine: root, ten minutes, Debian's buildah and debootstrap.
image-test: $(VENV)/.developing
	tests/image/prepare.sh
	$(BIN)/python -m pytest tests/image -m image -s

ray-test: $(VENV)/.developing
	$(BIN)/python -m pytest tests/ray_serve

# Known vulnerabilities of what constraints.txt pins; asks a public database. FUZZ_SECONDS: of each target.
audit: $(VENV)/.auditing
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

sbom: $(VENV)/.auditing
	mkdir -p build
	$(BIN)/cyclonedx-py environment --output-reproducible --of JSON -o build/sbom.json --pyproject pyproject.toml $(BIN)/python

FUZZ_SECONDS ?= 30
fuzz: $(VENV)/.developing
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

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

$(VENV)/.auditing: $(VENV)/.built
	$(PIP) --no-build-isolation --editable '.[audit]'
	touch $@

$(VENV)/.benching: $(VENV)/.built
	$(PIP) --no-build-isolation --editable '.[bench]'
	touch $@
