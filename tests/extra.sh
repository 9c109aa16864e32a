#!/usr/bin/env bash
# The tests that need TensorFlow or Apache Beam, in an environment of their own, .venv-extra; arguments go to pytest.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../launch/environment.sh"
use_environment .venv-extra
MCSS_ACCELERATOR=cpu prepare_environment requirements.txt tests/requirements.txt tests/requirements-extra.txt
cd -- "$ROOT"
# Beam's bound on protobuf brings one that warns of what TFDS does.
exec "$VENV/bin/python" -m pytest -m "tf or beam" -W ignore::DeprecationWarning "$@"
