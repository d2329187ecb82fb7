# Sourced by quickstart.sh and run_tests.sh: leaves an environment active in which mcl_mm runs.
#
# An active environment (venv or conda) is used as it is, and only what it lacks is installed;
# otherwise .venv is made in the checkout. MCL_MM_VENV names another place for it, PYTHON another
# interpreter. mmcv has no ready-made packages for this PyTorch: it is compiled once per machine and
# kept in ~/.cache/mcl_mm.

TORCH=2.11.0
TORCHVISION=0.26.0
MMCV=2.3.6
MMENGINE=0.10.12
MMDET=3.5.1
MMPRETRAIN=1.3.6

fail() {
    echo "error: $*" >&2
    exit 1
}

# Is `import $1` possible?
has() { python -c "import $1" >/dev/null 2>&1; }

# Run a long command with its output in a log, and say every 30 seconds that it still runs.
quietly() {
    local what=$1 log=$2 start=$SECONDS pid
    shift 2
    echo "$what (log: $log)"
    "$@" >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        if ((SECONDS - start > 0 && (SECONDS - start) % 30 == 0)); then
            echo "  ... $((SECONDS - start)) s"
        fi
    done
    wait "$pid" || {
        tail -n 25 "$log" >&2
        fail "$what: failed, see $log"
    }
}

build_mmcv() {
    local tag wheels ops=cpu
    command -v g++ >/dev/null || command -v c++ >/dev/null ||
        fail 'compiling mmcv needs a C++ compiler (Debian, Ubuntu: apt-get install g++)'
    if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        if command -v nvcc >/dev/null; then
            ops=cuda
        else
            echo 'No nvcc: mmcv gets CPU operators only. Pre-training can use the GPU, detectors not.'
        fi
    fi
    tag=$(python -c 'import sys, torch; print(f"torch{torch.__version__}-py{sys.version_info[0]}{sys.version_info[1]}")')
    wheels=${XDG_CACHE_HOME:-$HOME/.cache}/mcl_mm/$tag-$ops
    mkdir -p "$wheels"
    if ! ls "$wheels"/onedl_mmcv-"$MMCV"-*.whl >/dev/null 2>&1; then
        # Without a visible GPU mmcv's set-up compiles for the CPU.
        [ "$ops" = cuda ] || export CUDA_VISIBLE_DEVICES=
        MMCV_WITH_OPS=1 quietly "Compiling mmcv $MMCV, $ops operators: 12 to 15 minutes on 2 cores" \
            "$wheels/build.log" python -m pip wheel --no-cache-dir --no-deps --no-build-isolation \
            -w "$wheels" "onedl-mmcv==$MMCV"
        [ "$ops" = cuda ] || unset CUDA_VISIBLE_DEVICES
    fi
    python -m pip install --quiet "$wheels"/onedl_mmcv-"$MMCV"-*.whl
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
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
            fail "$("$python" --version) is too old: mcl_mm needs Python 3.10 or newer"
        echo "Making $venv"
        "$python" -m venv "$venv" || fail 'no venv module (Debian, Ubuntu: apt-get install python3-venv)'
    fi
    # shellcheck disable=SC1091
    . "$venv/bin/activate"
}

install_all() {
    activate_environment
    if has mcl_mm && has pytest && has ruff; then
        return
    fi
    python -m pip install --quiet --upgrade pip
    python -m pip install --quiet 'setuptools>=77,<82' wheel ninja psutil
    if ! has torch || ! has torchvision; then
        echo "Installing PyTorch $TORCH"
        python -m pip install --quiet "torch==$TORCH" "torchvision==$TORCHVISION"
    fi
    has mmcv._ext || build_mmcv
    echo 'Installing mmengine, mmdet, mmpretrain and mcl_mm'
    has mmengine || python -m pip install --quiet "onedl-mmengine==$MMENGINE"
    has mmdet || python -m pip install --quiet "onedl-mmdetection==$MMDET"
    has mmpretrain || python -m pip install --quiet "onedl-mmpretrain==$MMPRETRAIN"
    python -m pip install --quiet --no-build-isolation -e "$ROOT[tests,plots]"
    python -c 'import mcl_mm' || fail 'mcl_mm was installed but cannot be imported'
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
install_all
