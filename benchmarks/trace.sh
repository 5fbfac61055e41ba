#!/usr/bin/env bash
# Are the loss traces of two commits equal, bit for bit?   benchmarks/trace.sh OLD [NEW]
#
# Each commit is checked out under build/trace/, built, and run by every traced recipe (about ten CPU minutes the
# first time; a record that stands is used again). Machine, packages and threads are the same for both.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2p' "$0" | cut -c3-; exit 2; }
root=$(git rev-parse --show-toplevel)
python=$root/.venv/bin/python
store=$root/build/trace

trace() { # commit -> the folder of its record
  local sha checkout out
  sha=$(git -C "$root" rev-parse --short=12 "$1^{commit}")
  checkout=$store/tree-$sha out=$store/$sha
  if [ ! -d "$checkout" ]; then
    mkdir -p "$store"
    git -C "$root" archive --prefix="tree-$sha/" "$sha" | tar -x -C "$store"
    (cd "$checkout" && "$python" setup.py -q build_ext --inplace) >&2
  fi
  "$python" "$root/benchmarks/trace.py" record "$checkout" "$out" >&2
  echo "$out"
}

old=$(trace "$1")
new=$(trace "${2:-HEAD}")
"$python" "$root/benchmarks/trace.py" compare "$old" "$new"
