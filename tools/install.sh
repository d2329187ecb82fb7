#!/usr/bin/env bash
# Install mcl_mm into a Python environment, or finish an installation:
#
#   bash tools/install.sh                        nothing is compiled; detectors use torchvision's operators
#   bash tools/install.sh --compile-operators    compile mmcv's own operators, about 15 minutes on 2 cores
#
# MCL_MM_COMPILE_OPERATORS=1 is the same as --compile-operators; with it quickstart.sh and run_tests.sh, which
# source this file, compile too. That needs a C++ compiler, Python's headers and, for a GPU, PyTorch's nvcc.
# run_tests.sh also installs what the tests need.
#
# An active environment (venv or conda) is used as it is, and only what it lacks is installed; otherwise
# .venv is made in the checkout, with the versions of constraints.txt. MCL_MM_VENV names another place for
# it, PYTHON another interpreter.

MMENGINE=0.10.12
MMCV=2.3.6
MMDET=3.5.1
MMPRETRAIN=1.3.6

fail() {
    echo "error: $*" >&2
    exit 1
}

# Run Python code where no file of the checkout can be mistaken for an installed module.
py() { (cd / && python -W ignore -c "$1"); }
has() { py "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)" >/dev/null 2>&1; }
has_test_tools() { has pytest && has xdist && has ruff && has timm && has tensorboard && has datasets && has sphinx && has autoapi; }
has_mcl_mm() { py "import mcl_mm, os; assert os.path.samefile(os.path.dirname(mcl_mm.__file__), '$ROOT/mcl_mm')" >/dev/null 2>&1; }

# Run a command with its output in a log, and say how long it took; meanwhile, every 30 seconds, that it runs.
quietly() {
    local what=$1 log=$2 start=$SECONDS pid
    shift 2
    echo "$what ..."
    "$@" >"$log" 2>&1 &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if ((SECONDS - start >= 30 && (SECONDS - start) % 30 == 0)); then
            echo "  $((SECONDS - start)) s" && sleep 1
        fi
    done
    trap - INT TERM
    wait "$pid" || {
        tail -n 25 "$log" >&2
        fail "$what: failed, see $log"
    }
    echo "  done in $((SECONDS - start)) s"
}

# Python compiles a module when it is first imported, as the end of install_all does with those that are used.
# pip would compile all of them.
pip_install() {
    local what=$1
    shift
    quietly "Installing $what" "$CACHE/install.log" python -m pip install --no-compile "$@"
}

# cpu, or cuda where there is a GPU.
which_operators() {
    py 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo cpu && return; }
    local wanted found
    wanted=$(py 'import torch; print(str(torch.version.cuda).split(".")[0])')
    found=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    [ "$wanted" = "$found" ] || fail "PyTorch is built for CUDA $wanted, nvcc is ${found:-missing}:" \
        'install that nvcc, or do without --compile-operators'
    echo cuda
}

# Compile mmcv with its operators; the package is kept in ~/.cache/mcl_mm for other environments.
compile_mmcv() {
    local tag wheels ops
    command -v g++ >/dev/null || command -v c++ >/dev/null ||
        fail '--compile-operators needs a C++ compiler (Debian, Ubuntu: apt-get install g++)'
    py 'import os, sysconfig as s; assert os.path.exists(s.get_path("include") + "/Python.h")' 2>/dev/null ||
        fail '--compile-operators needs the Python headers (Debian, Ubuntu: apt-get install python3-dev)'
    ops=$(which_operators) || exit 1
    tag=$(py 'import sys, torch; print(f"torch{torch.__version__}-py{sys.version_info[0]}{sys.version_info[1]}")')
    wheels=$CACHE/$tag-$ops
    mkdir -p "$wheels"
    if ! ls "$wheels"/onedl_mmcv-"$MMCV"-*.whl >/dev/null 2>&1; then
        pip_install 'what compiling needs' wheel ninja psutil
        quietly "Compiling mmcv $MMCV, $ops operators, about 15 minutes on 2 cores (log: $wheels/build.log)" \
            "$wheels/build.log" env MMCV_WITH_OPS=1 python -m pip wheel --no-cache-dir \
            --no-deps --no-build-isolation -w "$wheels" "onedl-mmcv==$MMCV"
    fi
    pip_install 'mmcv with its operators' --force-reinstall --no-deps "$wheels"/onedl_mmcv-"$MMCV"-*.whl
    py 'import torch, mmcv._ext' ||
        fail "mmcv was compiled, but its operators cannot be loaded: remove $wheels and try again"
}

activate_environment() {
    if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
        echo "Using the active environment, ${VIRTUAL_ENV:-$CONDA_PREFIX}"
        return
    fi
    local venv=${MCL_MM_VENV:-$ROOT/.venv}
    if [ ! -e "$venv/bin/activate" ]; then
        local python=${PYTHON:-python3}
        command -v "$python" >/dev/null || fail "no $python: install Python 3.10 or newer"
        echo "Making $venv"
        "$python" -m venv "$venv" || fail 'no venv module (Debian, Ubuntu: apt-get install python3-venv)'
    fi
    # shellcheck disable=SC1091
    . "$venv/bin/activate"
    export PIP_CONSTRAINT=$ROOT/tools/constraints.txt
}

# install_all [tests]: also what the tests need.
install_all() {
    activate_environment
    py 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$(python --version) is too old: mcl_mm needs Python 3.10 or newer"
    local compile=0
    if [ "${MCL_MM_COMPILE_OPERATORS:-0}" = 1 ] && ! has mmcv._ext; then compile=1; fi
    if has_mcl_mm && has matplotlib && { [ -z "${1:-}" ] || has_test_tools; } && [ $compile = 0 ]; then
        return
    fi
    CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/mcl_mm
    mkdir -p "$CACHE"
    pip_install 'pip and setuptools' --upgrade pip 'setuptools>=77,<82'
    if ! has torch || ! has torchvision; then
        pip_install PyTorch torch torchvision
    fi
    py 'import sys, torch; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6))' ||
        fail 'mcl_mm needs PyTorch 2.6 or newer: update it in this environment, or use another one'
    # mmcv has no ready-made package. pip makes one in an environment of its own; as that has no PyTorch,
    # mmcv leaves its operators out, with or without a compiler. A package that somebody has compiled for
    # another PyTorch may lie in pip's cache.
    unset PIP_NO_BUILD_ISOLATION
    has mmcv || MMCV_WITH_OPS=0 pip_install mmcv --no-cache-dir "onedl-mmcv==$MMCV" "onedl-mmengine==$MMENGINE"
    local missing=()
    has mmengine || missing+=("onedl-mmengine==$MMENGINE")
    has mmdet || missing+=("onedl-mmdetection==$MMDET")
    has mmpretrain || missing+=("onedl-mmpretrain==$MMPRETRAIN")
    pip_install 'mcl_mm and what it stands on' ${missing[@]+"${missing[@]}"} -e "$ROOT[plots${1:+,$1}]"
    # The usual OpenCV wants libraries of a desktop, which servers lack.
    py 'import cv2' 2>/dev/null ||
        pip_install 'OpenCV without a desktop' --force-reinstall --no-deps opencv-python-headless==4.12.0.88
    if [ $compile = 1 ]; then compile_mmcv; fi
    py 'import mcl_mm, mmdet.models, mmpretrain.evaluation' ||
        fail 'mcl_mm was installed but cannot be imported'
    has_mcl_mm || fail "another mcl_mm than $ROOT comes first on this environment's path"
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    case ${1:-} in
    '') ;;
    --compile-operators) MCL_MM_COMPILE_OPERATORS=1 ;;
    *)
        sed -n '2,13s/^# \?//p' "$0"
        [ "$1" = -h ] || [ "$1" = --help ] && exit 0
        exit 2
        ;;
    esac
    install_all
    echo "mcl_mm is installed. Activate its environment with: . ${VIRTUAL_ENV:-${CONDA_PREFIX:-}}/bin/activate"
else
    install_all "$@"
fi
