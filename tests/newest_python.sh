#!/usr/bin/env bash
# The newest Python that is found, where it is newer than .venv's: core tests and a tiny training with the newest JAX
# that it takes, in an environment of its own, .venv-newest. Two minutes at most once that is installed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../launch/environment.sh"

tell() { printf '[newest Python] %s\n' "$*"; }

# Prints version and path of the newest Python that this project runs on, of PATH and of pyenv's versions.
newest_python() {
  local version path
  for version in 3.13 3.12 3.11; do
    while IFS= read -r path; do
      if [[ $(python_version "$path") == "$version" ]]; then
        printf '%s %s\n' "$version" "$path"
        return 0
      fi
    done < <(
      type -aP -- "python$version" || true
      printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python
    )
  done
  return 1
}

# What compiles little, so that the time holds where nothing is in JAX's cache yet; all tests are launch/test.sh's.
TESTS=(
  tests/mcss_jax/test_{crop,distances,losses,mining,skeleton}.py
  tests/mcss_jax/networks/test_regressor.py tests/mcss_jax/storage tests/mcss_jax/training/test_train_step.py
  tests/launch/cli/test_{cpu,flags}.py tests/test_package.py
)

smoke() {
  local work=$1
  "$VENV/bin/python" -m pytest -q --numprocesses=logical --maxprocesses=4 "${TESTS[@]}"
  "$VENV/bin/python" -W error::DeprecationWarning -m launch.prepare \
    --dataset=synthetic_multiview/tiny --data_dir="$work/data"
  "$VENV/bin/python" -W error::DeprecationWarning -m launch.train \
    --dataset=synthetic_multiview/tiny --data_dir="$work/data" --workdir="$work/run" --labelled=S1:0.5 \
    --labelled_batch=8 --blocks=2 --sequences=2 --instants=2 --stem=patch8 --width=8 --embedding_dim=8 --hidden=8 \
    --steps=10 --warmup_steps=2 --validation_stride=12
  test -e "$work/run/checkpoints/10"
}

read -r version path < <(newest_python) || {
  tell "skipped: no Python 3.11 to 3.13 on PATH or among pyenv's versions"
  exit 0
}
current=$(python_version "$ROOT/.venv/bin/python") || current=3.0
if ((${version#3.} <= ${current#3.})); then
  tell "skipped: none is newer than .venv's $current on PATH or among pyenv's versions (newest: $version)"
  exit 0
fi

use_environment .venv-newest
if [[ $(python_version "$VENV/bin/python") != "$version" ]]; then
  rm -rf -- "$VENV"
fi
export MCSS_PYTHON=$path MCSS_ACCELERATOR=cpu JAX_PLATFORMS=cpu
SECONDS=0
prepare_environment requirements.txt tests/requirements.txt
tell "Python $version, jax $("$VENV/bin/python" -c 'import jax; print(jax.__version__)'); installed in $SECONDS s"
cd -- "$ROOT"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
SECONDS=0
smoke "$work"
tell "passed in $SECONDS s (goal: at most 120)"
