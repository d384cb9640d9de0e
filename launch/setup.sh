#!/usr/bin/env bash
# Makes the project's environment. Needs bash, Python 3.11 or 3.12 with venv, and pip's package index.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: launch/setup.sh [cpu|cuda] [--deps-only]

Makes .venv in the project's root (or in $MARIGOLD_VENV) and installs everything into it. Without a
variant it keeps the one that is installed; at first, cuda where nvidia-smi finds a GPU, else cpu.
A second run finds nothing to do; a broken or interrupted one is continued.

  --deps-only          everything but the project itself (a Docker layer of its own)
  PYTHON               the interpreter to use instead of python3.11, python3.12 or python3
  MARIGOLD_VENV        where the environment goes
  MARIGOLD_DEV=0       leave out the tools for tests and lint
  PIP_EXTRA_INDEX_URL  PyTorch's CPU index here gives `cpu` the small CPU build of torch, where pip's
                       own configuration doesn't: the default index has a CUDA build of several GB
TEXT
}

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="${MARIGOLD_VENV:-$root/.venv}"
[[ $venv == /* ]] || venv="$PWD/$venv"
python="$venv/bin/python"
stamp="$venv/.marigold-setup" # the fingerprint of a finished set-up
chosen="$venv/.marigold-variant"
log="$venv/setup.log"
dev="${MARIGOLD_DEV:-1}"
variant=""
deps_only=0

main() {
    parse "$@"
    choose_variant
    if is_current; then
        echo "environment ready: $variant, $venv"
        return
    fi
    local base
    base="$(find_python)"
    mkdir -p "$venv"
    # One set-up at a time for each environment. The folder itself is the lock: venv --clear keeps it.
    exec 9<"$venv"
    if ! flock --nonblock 9; then
        echo "waiting for another set-up of $venv ..."
        flock 9
        if is_current; then
            echo "environment ready: $variant, $venv"
            return
        fi
    fi
    rm -f "$stamp"
    local status=0
    build "$base" || status=$?
    if ((status == 3)); then
        echo "what is in $venv does not work: making it anew"
        "$base" -m venv --clear "$venv"
        status=0
        build "$base" || status=$?
    fi
    if ((status != 0)); then
        {
            echo "setup.sh: failed. The end of $log:"
            tail -n 30 "$log"
            ((status != 3)) || echo "setup.sh: installed, but it does not load (see above)"
        } >&2
        exit 1
    fi
    if ((!deps_only)); then
        fingerprint >"$stamp.part"
        mv "$stamp.part" "$stamp"
    fi
    echo "environment made: $variant, $venv ($(tail -n 1 "$log"))"
}

parse() {
    local argument
    for argument in "$@"; do
        case "$argument" in
            cpu | cuda)
                [[ -z $variant || $variant == "$argument" ]] || refuse "cpu or cuda, not both"
                variant="$argument"
                ;;
            --deps-only) deps_only=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) refuse "unknown argument '$argument'" ;;
        esac
    done
    [[ $(uname -s) == Linux ]] || refuse "found $(uname -s), expected Linux: torchrec and fbgemm need it"
}

refuse() {
    echo "setup.sh: $1" >&2
    usage >&2
    exit 2
}

choose_variant() {
    if [[ -z $variant && -f $chosen ]]; then
        variant="$(<"$chosen")"
    fi
    if [[ -z $variant ]]; then
        variant=cpu
        if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
            variant=cuda
        fi
    fi
}

# All that decides what belongs into the environment.
fingerprint() {
    {
        printf '%s\n' "$variant" "$root" "$venv" "$dev"
        cat "$root/pyproject.toml" "$root/launch/constraints.txt" "$root/launch/setup.sh"
        cat "$venv/pyvenv.cfg"
    } | sha256sum | cut -d ' ' -f 1
}

is_current() {
    [[ -f $stamp && -x $python ]] || return 1
    [[ "$(<"$stamp")" == "$(fingerprint)" ]] || return 1
    # Checks the versions too. From elsewhere, as in doctor.
    (cd / && "$python" -c 'import marigold_rec') 2>/dev/null
}

find_python() {
    local candidates=(python3.11 python3.12 python3) candidate
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if command -v "$candidate" >/dev/null && fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    {
        echo "setup.sh: no suitable Python found (tried: ${candidates[*]})."
        echo "Expected Python 3.11 or 3.12 with its venv module; on Debian and Ubuntu: the packages"
        echo "python3.11 and python3.11-venv. Or name one: PYTHON=/path/to/python3.11 launch/setup.sh"
    } >&2
    exit 1
}

fits() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null
}

# 0: done, 1: a step failed, 3: everything is installed, but it does not load.
build() {
    local base=$1 requirements="$venv/requirements.txt"
    if ! { [[ -x $python ]] && fits "$python" && "$python" -m pip --version >/dev/null 2>&1; }; then
        echo "making $venv with $("$base" -V)"
        "$base" -m venv --clear "$venv" || return 1
    fi
    : >"$log"
    echo "$variant" >"$chosen"
    drop_broken >>"$log" 2>&1 || return 1
    requirements >"$requirements" || return 1
    step "installing $(wc -l <"$requirements") packages and what they need ($variant)" \
        pip_install --constraint "$root/launch/constraints.txt" -r "$requirements" || return 1
    if [[ $variant == cpu ]]; then
        # Without dependencies, which also keeps pip quiet about `fbgemm-gpu`, the CUDA build's name.
        local without=()
        mapfile -t without < <(toml 'tool["marigold"]["cpu-without-dependencies"]')
        step "installing ${without[*]}" pip_install --no-deps "${without[@]}" || return 1
    fi
    if ((deps_only)); then
        step "loading it" "$python" -c 'import torch, torchrec; print("torchrec", torchrec.__version__)' ||
            return 3
        return
    fi
    step "installing the project itself" \
        pip_install --no-deps --no-build-isolation --editable "$root" || return 1
    step "loading it" doctor || return 3
}

# From elsewhere, so that the install is asked and not the current folder.
doctor() {
    (cd / && "$python" -m marigold_rec.versions --brief)
}

step() {
    local what=$1 started=$SECONDS
    shift
    printf '%s ... ' "$what"
    if "$@" >>"$log" 2>&1; then
        echo "done ($((SECONDS - started)) s)"
    else
        echo "FAILED"
        return 1
    fi
}

pip_install() {
    # A second run over an installed torchrec would warn that `fbgemm-gpu` is missing: see pyproject.toml.
    "$python" -m pip install --disable-pip-version-check --no-input --no-warn-conflicts "$@"
}

# What an interrupted pip left behind, and the other variant: both fbgemm builds own the same files.
drop_broken() {
    local info packages=()
    for info in "$venv"/lib/python3.*/site-packages/*.dist-info; do
        if [[ -d $info && ! -f $info/RECORD ]]; then
            echo "half installed: $info"
            rm -r "$info"
        fi
    done
    local cpu_build=("$venv"/lib/python3.*/site-packages/fbgemm_gpu_cpu-*.dist-info)
    local cuda_build=("$venv"/lib/python3.*/site-packages/fbgemm_gpu-[0-9]*.dist-info)
    if [[ $variant == cuda && -d ${cpu_build[0]} ]] || [[ $variant == cpu && -d ${cuda_build[0]} ]]; then
        packages=(fbgemm-gpu-cpu fbgemm-gpu torchrec torch)
        "$python" -m pip uninstall --yes "${packages[@]}"
    fi
}

requirements() {
    toml 'project["dependencies"]'
    toml "project['optional-dependencies']['$variant']"
    [[ $dev == 0 ]] || toml 'project["optional-dependencies"]["dev"]'
}

# Prints one line for each entry of a list in pyproject.toml.
toml() {
    "$python" - "$root/pyproject.toml" <<CODE
import sys, tomllib
tree = tomllib.load(open(sys.argv[1], "rb"))
project, tool = tree["project"], tree["tool"]
print(*($1), sep="\n")
CODE
}

main "$@"
