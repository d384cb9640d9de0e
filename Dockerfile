# Two targets: docker build --target cpu -t marigold-rec:cpu .   (or --target cuda, marigold-rec:cuda)
# A first version. It has not been built: there was no Docker engine where it was written. The commands
# of launch/setup.sh, which it is built on, run in CI.

# torch's wheels bring the CUDA libraries along, so the small "base" flavour (driver hooks) is enough.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS os-cuda
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv tini libgomp1 \
    && rm -rf /var/lib/apt/lists/*

FROM python:3.11.13-slim-bookworm AS os-cpu
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini libgomp1 \
    && rm -rf /var/lib/apt/lists/*

# The dependencies are a layer of their own: a change of our code doesn't install torch again.
FROM os-cpu AS deps-cpu
ENV MARIGOLD_VENV=/opt/marigold/venv MARIGOLD_DEV=0 PIP_NO_CACHE_DIR=1
# PyTorch's CPU index, for the small CPU build: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /opt/marigold/app
COPY pyproject.toml ./
COPY launch/setup.sh launch/constraints.txt launch/
RUN launch/setup.sh cpu --deps-only

FROM os-cuda AS deps-cuda
ENV MARIGOLD_VENV=/opt/marigold/venv MARIGOLD_DEV=0 PIP_NO_CACHE_DIR=1
WORKDIR /opt/marigold/app
COPY pyproject.toml ./
COPY launch/setup.sh launch/constraints.txt launch/
RUN launch/setup.sh cuda --deps-only

FROM deps-cuda AS cuda
COPY . .
RUN launch/setup.sh cuda \
    && useradd --uid 10001 --create-home marigold \
    && install --directory --owner=marigold /work
USER 10001
ENV PATH=/opt/marigold/venv/bin:$PATH PYTHONUNBUFFERED=1
# Runs and data live outside of the image: mount a volume on /work.
VOLUME /work
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["torchrun", "--standalone", "--nproc-per-node", "gpu", "launch/train.py", "--config", "configs/ctr_cvr.yaml", "run.dir=/work/runs"]

FROM deps-cpu AS cpu
COPY . .
RUN launch/setup.sh cpu \
    && useradd --uid 10001 --create-home marigold \
    && install --directory --owner=marigold /work
USER 10001
ENV PATH=/opt/marigold/venv/bin:$PATH PYTHONUNBUFFERED=1
# Runs and data live outside of the image: mount a volume on /work.
VOLUME /work
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["torchrun", "--standalone", "--nproc-per-node", "2", "launch/train.py", "--config", "configs/ctr_cvr.yaml", "run.dir=/work/runs"]
