#!/bin/sh
# Makes .venv and installs the project into it. Called by `make venv`, which keeps a stamp file so
# that it happens once. Reads PYTHON, EXTRAS and TORCH_INDEX; the Makefile says what they mean.
set -eu

cpu_index=https://download.pytorch.org/whl/cpu

fail() { # WHAT, DEBIAN, MACOS
    echo "missing: $1" >&2
    echo "  Debian: $2" >&2
    echo "  macOS:  $3" >&2
    exit 2
}

# --- what the machine has -----------------------------------------------------------------------

python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "Python 3.11 or later (tried: ${PYTHON:-python3, python3.14 to python3.11})" \
    "sudo apt-get install python3 python3-venv" "brew install python@3.13"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "the venv module of $(command -v "$python")" \
    "sudo apt-get install python3-venv" "brew install python@3.13"
command -v make >/dev/null || fail "make" "sudo apt-get install make" "xcode-select --install"

hardware=cpu
if nvidia-smi -L >/dev/null 2>&1; then hardware=gpu; fi

# --- the environment ----------------------------------------------------------------------------

if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

# On Linux the package index serves torch with CUDA, some 3 GB. Without a GPU the CPU build does,
# from an index of its own. Where that cannot be reached (or pip is told of local wheels), pip
# decides alone.
reachable() {
    .venv/bin/python -c '
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=5)' "$1/torch/" 2>/dev/null
}
index=
size="0.4 GB"
case ${TORCH_INDEX-auto} in
auto)
    if [ "$(uname -s)" = Linux ]; then
        if [ $hardware = gpu ]; then
            size="4 GB, torch's CUDA build among it"
        elif reachable $cpu_index; then
            index=$cpu_index
        else
            size="0.4 GB (3 GB where pip finds torch's CUDA build only: set TORCH_INDEX then)"
        fi
    fi
    ;;
*) index=$TORCH_INDEX ;;
esac

# FAISS comes for CUDA on x86-64 alone.
faiss=cpu
if [ $hardware = gpu ] && [ "$(uname -m)" = x86_64 ]; then faiss=gpu; fi

echo "installing peer-cl [$faiss,$EXTRAS] into .venv; about $size to download, 2 GB on disk"
.venv/bin/python -m pip install --disable-pip-version-check --no-input \
    ${index:+--extra-index-url "$index"} --editable ".[$faiss,$EXTRAS]"
