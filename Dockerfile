# Two targets: docker build --target cpu -t marigold-rec:cpu .   (or --target cuda, marigold-rec:cuda)
#
# Bases are pinned by their exact tag. A digest would be stricter, but no registry of images can be
# reached where this is written, so that one could only be invented: pin it when you mirror the base.
# What has been run of this file, and how: docs/deployment.md.

# torch's wheels bring the CUDA libraries along, so the small "base" flavour (driver hooks) is enough.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS os-cuda
# Debian and Ubuntu delete a package's old version when a fix comes out: a pinned one fails next month.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        libgomp1 python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 marigold \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home marigold \
    && install --directory --owner=marigold --group=marigold /work /work/runs

FROM python:3.11.13-slim-bookworm AS os-cpu
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 marigold \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home marigold \
    && install --directory --owner=marigold --group=marigold /work /work/runs

# The dependencies are a layer of their own: a change of our code doesn't install torch again.
FROM os-cuda AS deps-cuda
ENV MARIGOLD_VENV=/opt/marigold/venv MARIGOLD_DEV=0 PIP_NO_CACHE_DIR=1
WORKDIR /opt/marigold/app
COPY pyproject.toml ./
COPY launch/setup.sh launch/constraints.txt launch/
RUN launch/setup.sh cuda --deps-only

FROM os-cpu AS deps-cpu
ENV MARIGOLD_VENV=/opt/marigold/venv MARIGOLD_DEV=0 PIP_NO_CACHE_DIR=1
# PyTorch's CPU index, for the small CPU build: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /opt/marigold/app
COPY pyproject.toml ./
COPY launch/setup.sh launch/constraints.txt launch/
RUN launch/setup.sh cpu --deps-only

# Runs and data live outside of the image: mount them below /work. The user owns /work/runs, which a
# new named volume takes over.
#
# tini without -g: it passes SIGTERM to torchrun or nightly.py alone, and these to the ranks. With -g
# each rank would get the signal twice, and the second one ends it without a save.
#
# No health check: this is a job, not a service. Its health is its exit code; a rank that hangs is
# ended by the others' time-outs, and neither Docker nor Kubernetes acts on an image's HEALTHCHECK.
FROM deps-cuda AS cuda
COPY . .
RUN launch/setup.sh cuda
ENV PATH=/opt/marigold/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["torchrun", "--standalone", "--nproc-per-node", "gpu", "launch/train.py", "--config", "configs/ctr_cvr.yaml", "run.dir=/work/runs"]

FROM deps-cpu AS cpu
COPY . .
RUN launch/setup.sh cpu
ENV PATH=/opt/marigold/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["torchrun", "--standalone", "--nproc-per-node", "2", "launch/train.py", "--config", "configs/ctr_cvr.yaml", "run.dir=/work/runs"]
