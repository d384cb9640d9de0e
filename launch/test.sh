#!/usr/bin/env bash
# Sets the environment up and runs the tests. Arguments go to pytest: launch/test.sh tests/test_ranks.py -x
#   MARIGOLD_SLOW=1          also the slow tests, as CI does
#   MARIGOLD_TEST_WORKERS=0  in one process (for a debugger); default 2
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
"$root/launch/setup.sh"
cd "$root"
venv="${MARIGOLD_VENV:-.venv}"
workers="${MARIGOLD_TEST_WORKERS:-2}"
# The workers and the ranks of multi-rank tests share the cores: one thread each.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$venv/bin/python" -m pytest --numprocesses "$workers" --dist loadfile "$@"
