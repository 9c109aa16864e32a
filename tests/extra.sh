#!/usr/bin/env bash
# The tests that need TensorFlow or Apache Beam, in an environment of their own, .venv-extra; arguments go to pytest.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../launch/environment.sh"
VENV=$ROOT/.venv-extra STAMP=$ROOT/.venv-extra/.requirements UNFINISHED=$ROOT/.venv-extra/.unfinished
MCSS_ACCELERATOR=cpu prepare_environment requirements.txt tests/requirements.txt tests/requirements-extra.txt
cd -- "$ROOT"
# Beam's bound on protobuf brings one that warns of what TFDS does.
exec "$VENV/bin/python" -m pytest -m "tf or beam" -W ignore::DeprecationWarning "$@"
