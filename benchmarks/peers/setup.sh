#!/usr/bin/env bash
# Makes the peers' own environment (torch-rechub, DeepCTR-Torch, the same torch as ours).
#   benchmarks/peers/setup.sh                      -> .venv-peers in the repository root
#   PEERS_VENV=/tmp/x benchmarks/peers/setup.sh    -> another place; give run.py the same PEERS_VENV
# Idempotent: a second run finds the stamp and does nothing.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
venv="${PEERS_VENV:-$root/.venv-peers}"
python="${PYTHON:-python3.11}"
wanted="$here/requirements.txt"
stamp="$venv/.requirements.installed"

if [[ -x "$venv/bin/python" ]] && cmp --silent "$wanted" "$stamp"; then
    echo "peers: $venv is up to date"
    exit 0
fi

"$python" -m venv "$venv"
# pip takes a +cpu build where one is offered (a wheel folder or PIP_EXTRA_INDEX_URL); the CUDA
# build of the same version works too, it's only larger.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" "$stamp"
"$venv/bin/python" -c "
import importlib.metadata as m
print('peers:', ', '.join(f'{p} {m.version(p)}' for p in ('torch', 'torch-rechub', 'deepctr-torch')))
"
