#!/usr/bin/env bash
# Makes the environment, then prepares synthetic people, trains, evaluates and reports: see launch/demo.py.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment requirements.txt
cd -- "$ROOT"
exec "$VENV/bin/python" -m launch.demo "$@"
