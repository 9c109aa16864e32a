#!/usr/bin/env bash
# Makes the environment and runs the tests; arguments go to pytest: bash launch/test.sh -k checkpoint
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment requirements.txt tests/requirements.txt
cd -- "$ROOT"
exec "$VENV/bin/python" -m pytest --numprocesses=logical --maxprocesses=4 "$@"
