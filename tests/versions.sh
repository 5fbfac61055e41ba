#!/usr/bin/env bash
# Do the tests pass with other versions?   tests/versions.sh oldest|pinned|newest [PYTHON]
#
# oldest takes every floor of pyproject.toml, pinned constraints.txt, newest what pip finds. Tests the commit that is
# checked out, in an environment under build/versions/ (kept: remove it for a fresh one), and writes the counts into
# docs/versions.md. PyTorch brings gigabytes of CUDA packages; half an hour. Not for CI.
set -euo pipefail
[[ ${1:-} =~ ^(oldest|pinned|newest)$ ]] || { sed -n '2p' "$0" | cut -c3-; exit 2; }
corner=$1 python=${2:-python3}
root=$(git rev-parse --show-toplevel)
work=$root/build/versions/$corner-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
rm -rf "$work/tree"
git clone -q --shared "$root" "$work/tree"
cd "$work/tree"
[[ -x $work/venv/bin/python ]] || "$python" -m venv "$work/venv"
python=$work/venv/bin/python

export PIP_CONSTRAINT=$work/constraints.txt # and not the machine's, where it has some
case $corner in
  oldest) "$python" tests/versions.py floors > "$PIP_CONSTRAINT" ;;
  pinned) cp constraints.txt "$PIP_CONSTRAINT" ;;
  newest) : > "$PIP_CONSTRAINT" ;;
esac
export PATH=$work/venv/bin:$PATH # setup.py calls cmake
"$python" -m pip install -q --disable-pip-version-check setuptools wheel pybind11 cmake ninja
"$python" -m pip install -q --disable-pip-version-check --no-build-isolation -e ./kernels -e '.[dev]'

export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
fast=$(sed -n 's/^FAST := //p' Makefile)
test() { nice "$python" -m pytest -q -n "${WORKERS:-1}" --junitxml="$work/$1.xml" -m "$2" tests; }
test fast "$fast" || true
TRITON_INTERPRET=1 test interpret 'interpret and not slow' || true
"$python" tests/versions.py row "$corner" "$work" "$root/docs/versions.md"
