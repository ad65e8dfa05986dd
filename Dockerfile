# Pixeltier's image. CPU by default:
#
#   docker build -t pixeltier:0.1.0 --build-arg TORCH_INDEX=<the index of CPU wheels that PyTorch's install page names> .
#   docker build -t pixeltier:0.1.0-cuda --build-arg VARIANT=cuda --build-arg BUILD_IMAGE=<a Debian image with nvcc> .
#
# Both images must have the same Python: the environment is made in the first and runs in the second.
ARG BASE_IMAGE=debian:bookworm-slim
ARG BUILD_IMAGE=${BASE_IMAGE}
ARG VARIANT=cpu

FROM ${BUILD_IMAGE} AS build
ARG VARIANT
# Empty: the default index, whose wheels for x86 Linux bring CUDA along (three gigabytes nobody needs on a CPU).
ARG TORCH_INDEX=
# Of pyproject.toml, with commas between: ray for deploy/ray, otel for traces, grpc for PIXELTIER_GRPC_PORT.
ARG EXTRAS=
ENV DEBIAN_FRONTEND=noninteractive \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PATH=/opt/pixeltier/bin:$PATH
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY constraints.txt ./
RUN test "$VARIANT" = cpu || test "$VARIANT" = cuda || { echo "VARIANT is cpu or cuda, not $VARIANT" >&2; exit 1; }; \
    test "$VARIANT" = cpu || command -v nvcc || { echo "VARIANT=cuda needs a BUILD_IMAGE with nvcc" >&2; exit 1; }; \
    python3 -m venv /opt/pixeltier \
 && pip install --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
 && pip install --constraint constraints.txt numpy scikit-build-core cmake ninja
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY LICENSES LICENSES
COPY distribution distribution
COPY native native
COPY models models
COPY service service
RUN pip install --constraint constraints.txt --no-build-isolation ".${EXTRAS:+[$EXTRAS]}" \
 && pip uninstall --yes scikit-build-core cmake ninja setuptools \
 && cd "$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')" \
 && rm -rf torch/include torch/share torch/test \
 && find torch/bin -type f ! -name torch_shm_manager -delete \
 && pip uninstall --yes pip \
 && python -m compileall -q pixeltier

FROM ${BASE_IMAGE} AS runtime-cpu

# What the container runtime gives a container of a machine with GPUs; an image for processors must not ask for any.
FROM ${BASE_IMAGE} AS runtime-cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime-${VARIANT}
ARG VARIANT
# Of Pixeltier, its weights and pictures; Debian's, Python's and torch's packages bring theirs along (/usr/share/doc, *.dist-info).
LABEL org.opencontainers.image.title="pixeltier" \
      org.opencontainers.image.description="Image classification and super-resolution that compute only where it matters" \
      org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND CC-PDM-1.0 AND CC0-1.0 AND LicenseRef-Non-Commercial-Weights AND MIT" \
      org.opencontainers.image.documentation="docs/deployment.md" \
      pixeltier.variant="${VARIANT}"
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 libstdc++6 \
 && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/*
COPY --from=build /opt/pixeltier /opt/pixeltier
# For a volume that keeps the tier table's versions (PIXELTIER_STATE_DIR); a named volume takes over the owner.
RUN install --directory --owner=65532 --group=65532 /var/lib/pixeltier
# Nothing else is written: bytecode is compiled, the log goes to standard output, workers talk through pipes.
ENV PATH=/opt/pixeltier/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIXELTIER_HOST=0.0.0.0 \
    PIXELTIER_LOG_FORMAT=json
# By number, so that a cluster can see that it is not root.
USER 65532:65532
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 CMD ["pixeltier", "health", "--timeout", "4"]
ENTRYPOINT ["pixeltier"]
CMD ["serve"]
