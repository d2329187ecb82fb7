# Sourced by quickstart.sh and run_tests.sh: leaves an environment active in which mcl_mm runs.
#
# An active environment (venv or conda) is used as it is, and only what it lacks is installed;
# otherwise .venv is made in the checkout, with the versions of constraints.txt. MCL_MM_VENV names
# another place for it, PYTHON another interpreter. mmcv has no ready-made packages for this PyTorch:
# it is compiled once per machine and kept in ~/.cache/mcl_mm.

MMCV=2.3.6
MMENGINE=0.10.12
MMDET=3.5.1
MMPRETRAIN=1.3.6

fail() {
    echo "error: $*" >&2
    exit 1
}

# Run Python code where no file of the checkout can be mistaken for an installed module.
py() { (cd / && python -W ignore -c "$1"); }
has() { py "import $1" >/dev/null 2>&1; }
has_test_tools() { has pytest,xdist,ruff,timm,safetensors,tensorboard; }
has_mcl_mm() { py "import mcl_mm, os; assert os.path.samefile(os.path.dirname(mcl_mm.__file__), '$ROOT/mcl_mm')" >/dev/null 2>&1; }

# Run a long command with its output in a log, and say every 30 seconds that it still runs.
quietly() {
    local what=$1 log=$2 start=$SECONDS pid
    shift 2
    echo "$what (log: $log)"
    "$@" >"$log" 2>&1 &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        if ((SECONDS > start && (SECONDS - start) % 30 == 0)); then
            echo "  ... $((SECONDS - start)) s"
        fi
    done
    trap - INT TERM
    wait "$pid" || {
        tail -n 25 "$log" >&2
        fail "$what: failed, see $log"
    }
}

pip_install() {
    local what=$1
    shift
    quietly "Installing $what" "$CACHE/${what// /_}.log" python -m pip install "$@"
}

# cpu, or cuda where a GPU can be used and a compiler for it fits this PyTorch.
which_operators() {
    py 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo cpu && return; }
    local wanted found
    wanted=$(py 'import torch; print(str(torch.version.cuda).split(".")[0])')
    found=$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    if [ "$wanted" = "$found" ]; then
        echo cuda
    else
        echo "mmcv gets CPU operators only: PyTorch is built for CUDA $wanted, nvcc is ${found:-missing}." \
            'Pre-training uses the GPU, detectors do not.' >&2
        echo cpu
    fi
}

build_mmcv() {
    local tag wheels ops
    command -v g++ >/dev/null || command -v c++ >/dev/null ||
        fail 'compiling mmcv needs a C++ compiler (Debian, Ubuntu: apt-get install g++)'
    py 'import os, sysconfig as s; assert os.path.exists(s.get_path("include") + "/Python.h")' 2>/dev/null ||
        fail 'compiling mmcv needs the Python headers (Debian, Ubuntu: apt-get install python3-dev)'
    ops=$(which_operators)
    tag=$(py 'import sys, torch; print(f"torch{torch.__version__}-py{sys.version_info[0]}{sys.version_info[1]}")')
    wheels=$CACHE/$tag-$ops
    mkdir -p "$wheels"
    if ! ls "$wheels"/onedl_mmcv-"$MMCV"-*.whl >/dev/null 2>&1; then
        # Without a visible GPU mmcv's set-up compiles for the CPU.
        local hide=()
        [ "$ops" = cuda ] || hide=(CUDA_VISIBLE_DEVICES=)
        quietly "Compiling mmcv $MMCV, $ops operators: 12 to 15 minutes on 2 cores for the CPU, longer for CUDA" \
            "$wheels/build.log" env MMCV_WITH_OPS=1 "${hide[@]}" python -m pip wheel --no-cache-dir \
            --no-deps --no-build-isolation -w "$wheels" "onedl-mmcv==$MMCV"
    fi
    pip_install mmcv "$wheels"/onedl_mmcv-"$MMCV"-*.whl
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

install_all() {
    activate_environment
    py 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$(python --version) is too old: mcl_mm needs Python 3.10 or newer"
    if has_mcl_mm && has_test_tools; then
        return
    fi
    CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/mcl_mm
    mkdir -p "$CACHE"
    pip_install 'pip and build tools' --upgrade pip 'setuptools>=77,<82' wheel ninja psutil
    if ! has torch || ! has torchvision; then
        pip_install PyTorch torch torchvision
    fi
    py 'import sys, torch; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6))' ||
        fail 'mcl_mm needs PyTorch 2.6 or newer: update it in this environment, or use another one'
    has mmengine || pip_install mmengine "onedl-mmengine==$MMENGINE"
    has mmcv._ext || build_mmcv
    has mmdet || pip_install mmdet "onedl-mmdetection==$MMDET"
    has mmpretrain || pip_install mmpretrain "onedl-mmpretrain==$MMPRETRAIN"
    # The usual OpenCV wants libraries of a desktop, which servers lack.
    has cv2 || pip_install 'OpenCV without a desktop' --force-reinstall --no-deps opencv-python-headless==4.12.0.88
    pip_install mcl_mm --no-build-isolation -e "$ROOT[tests,plots]"
    py 'import mcl_mm' || fail 'mcl_mm was installed but cannot be imported'
    has_mcl_mm || fail "another mcl_mm than $ROOT comes first on this environment's path"
}

# Detectors need mmcv's operators for the device they run on.
hide_gpu_unless_mmcv_uses_it() {
    if py 'from mmcv.ops import get_compiling_cuda_version as v; assert v() == "not available"' 2>/dev/null; then
        export CUDA_VISIBLE_DEVICES=
    fi
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
install_all
