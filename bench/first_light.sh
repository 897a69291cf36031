#!/usr/bin/env bash
# Everything worth knowing of a GPU, on a bare machine: builds in place, proves the kernels, times
# them; see bench/gpu/first_light.py. Needs torch, triton, numpy, setuptools, pybind11, ninja and
# pytest, and no network.
#
#     bench/first_light.sh [--phase 1|2] [--dry-run] [--out FOLDER] [--commit NAME]
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-}"
for candidate in "$root/.venv/bin/python" python3; do
  if [ -z "$python" ] && "$candidate" -c "import torch" 2>/dev/null; then python="$candidate"; fi
done
exec "${python:-python3}" "$root/bench/gpu/first_light.py" "$@"
