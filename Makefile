# make serve · make test · make lint · make bench · make pictures · make screenshots · make docs · make image-test · make ray-test
# make wheel · make audit · make sbom · make fuzz · make stack · make dashboards-picture
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
NAMESPACE := build/namespace/pixeltier
NATIVE := $(shell find native -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cmake' -o -name '*.in' -o -name CMakeLists.txt)

.PHONY: grpc stack dashboards-picture
.PHONY: docs image-test ray-test wheel audit sbom fuzz
.PHONY: serve test lint format bench pictures screenshots sanitize clean

serve: $(VENV)/.built
	$(BIN)/pixeltier serve

# The service, Prometheus (apt-get install prometheus) and, where it is installed, Grafana.
stack: $(VENV)/.built
	$(BIN)/python deploy/stack.py

test: $(VENV)/.developing
	$(BIN)/python -m pytest

lint: $(VENV)/.developing $(NAMESPACE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=build/namespace $(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(filter %.cpp %.h %.cu,$(NATIVE))

# The package as it is installed, for tools that read sources: links to the folders that the build maps.
$(NAMESPACE): $(wildcard distribution/pixeltier/*.py)
	mkdir -p $@
	ln -sfn $(addprefix ../../../,native models service $(wildcard distribution/pixeltier/*.py)) $@
	touch $@

# The kernel tests with every memory access and every undefined operation checked; builds a second extension.
SANITIZED := build/sanitized
sanitize: $(VENV)/.developing
	$(PIP) --no-build-isolation --no-deps --upgrade --target $(SANITIZED) \
	  --config-settings=build-dir=build/sanitize --config-settings=cmake.define.PIXELTIER_SANITIZE=ON \
	  --config-settings=cmake.build-type=RelWithDebInfo .
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	  $(BIN)/python tests/sanitized.py $(SANITIZED) -q -p no:cacheprovider --ignore-glob='*cuda*' --ignore-glob='*gpu*' tests/unit/native

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(filter %.cpp %.h %.cu,$(NATIVE))

grpc: $(VENV)/.developing
	cd service/grpc_server && $(abspath $(BIN))/python -m grpc_tools.protoc -I. --descriptor_set_out=open_inference.binpb --pyi_out=. \
	  open_inference.proto && mv open_inference_pb2.pyi open_inference.pyi

bench: $(VENV)/.benching
	$(BIN)/python -m benchmarks.kernels --json benchmarks/results/kernels.json
	$(BIN)/python -m benchmarks.models --json benchmarks/results/models.json

pictures: $(VENV)/.benching
	$(BIN)/python -m benchmarks.pictures --enlarge docs/samples/astronaut.jpg --classify docs/samples/chelsea.jpg

# Wants chromium, and fonts-inter for the looks.
screenshots: $(VENV)/.developing
	$(BIN)/python -m benchmarks.screenshots --out docs/images

# The documentation as a site, in build/site.
docs: $(VENV)/.developing
	$(BIN)/mkdocs build --strict

# The Dockerfile built and run without an engine: root, ten minutes, Debian's buildah and debootstrap.
image-test: $(VENV)/.developing
	tests/image/prepare.sh
	$(BIN)/python -m pytest tests/image -m image -s

ray-test: $(VENV)/.developing
	$(BIN)/python -m pytest tests/ray_serve

# In dist: the wheels of client and service, and the source distribution of both (docs/deployment.md, "Wheels").
wheel: $(VENV)/.wheeling
	rm -rf build/wheel dist/pixeltier*
	mkdir -p dist
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/python distribution/wheels.py build/wheel/*.whl dist
	$(BIN)/python -c "from scikit_build_core.build import build_sdist; build_sdist('dist')"

# Known vulnerabilities of what constraints.txt pins; asks a public database. FUZZ_SECONDS: of each target.
audit: $(VENV)/.auditing
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

sbom: $(VENV)/.auditing
	mkdir -p build
	$(BIN)/cyclonedx-py environment --output-reproducible --of JSON -o build/sbom.json --pyproject pyproject.toml $(BIN)/python

FUZZ_SECONDS ?= 30
fuzz: $(VENV)/.developing
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

dashboards-picture: $(VENV)/.benching
	$(BIN)/python -m benchmarks.dashboards

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

$(VENV)/.wheeling: $(VENV)/.built
	$(PIP) --no-build-isolation --editable '.[wheel]'
	touch $@

$(VENV)/.auditing: $(VENV)/.built
	$(PIP) --no-build-isolation --editable '.[audit]'
	touch $@

$(VENV)/.benching: $(VENV)/.built
	$(PIP) --no-build-isolation --editable '.[bench]'
	touch $@
