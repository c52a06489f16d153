#!/usr/bin/env bash
# Build a back end's environment with uv, at the pinned versions, and record every version in it.
# usage: environment.sh envs/<backend> <file for the versions, relative to the project>
# UV_TORCH_BACKEND=cpu (or cu126, auto, …) chooses PyTorch's build; UV_FIND_LINKS=<folder> takes wheels that lie there.
set -euo pipefail
cd "$1"
# Where pip is configured with a wheel house, use it: a CPU build that lies there spares several GB of CUDA.
if [ -z "${UV_FIND_LINKS:-}" ]; then
    links=${PIP_FIND_LINKS:-$(pip config get global.find-links 2>/dev/null || true)}
    if [ -n "$links" ]; then export UV_FIND_LINKS="$links"; fi
fi
unset VIRTUAL_ENV
# The Python that the project asks for, whatever the machine's default is.
uv venv --allow-existing --python "$(sed -n 's/^requires-python = "\(.*\)"/\1/p' pyproject.toml)" .venv
# uv reads the pins (tool.uv.constraint-dependencies) from the project it stands in.
uv pip install --python .venv/bin/python --compile-bytecode -r pyproject.toml
{ echo "# pins $(sha256sum < pyproject.toml | cut -c1-12)"; uv pip freeze --python .venv/bin/python; } > "$2"
