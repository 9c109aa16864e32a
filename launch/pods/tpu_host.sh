#!/usr/bin/env bash
# What launch/pods/tpu.sh calls on every host of a slice, from the copy of the repository there:
#
#     tpu_host.sh setup SHARE MOUNT              mounts the share, makes .venv
#     tpu_host.sh start SHARE MOUNT FLAGS...     trains in the background; outlives the connection
#     tpu_host.sh status | stop
#
# A host has one job, in ~/mcss_job: log.txt, process, exit_code.
set -euo pipefail
PROGRAM=tpu_host.sh
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
JOB=$HOME/mcss_job

mount_share() {  # share, mount
  [[ -n $1 ]] || return 0
  ! mountpoint -q "$2" || return 0
  sudo mkdir -p -- "$2"
  case $1 in
    gs://*)
      command -v gcsfuse >/dev/null || install_gcsfuse
      sudo chown "$(id -u):$(id -g)" "$2"
      # Checkpoints are renamed when they are complete, folder and all, which gcsfuse refuses unless told.
      gcsfuse --implicit-dirs --rename-dir-limit=100000 "${1#gs://}" "$2"
      ;;
    *)
      command -v mount.nfs >/dev/null || { sudo apt-get update -q && sudo apt-get install -q -y nfs-common; }
      sudo mount -t nfs -o hard "$1" "$2"
      ;;
  esac
}

# As Google's documentation of Cloud Storage FUSE says.
install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc source=https://packages.cloud.google.com/apt
  curl -fsS "$source/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $source gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get update -q
  sudo apt-get install -q -y gcsfuse
}

# Ubuntu 22.04, which Google's images for TPUs hold, has Python 3.10; uv brings a newer one beside it. JAX asks for
# the huge pages, by a warning, on v5e and later.
setup() {
  echo always | sudo tee /sys/kernel/mm/transparent_hugepage/enabled >/dev/null
  # shellcheck source-path=SCRIPTDIR source=../environment.sh
  source "$ROOT/launch/environment.sh"
  if ! find_python >/dev/null 2>&1; then
    python3 -m pip install --quiet --user uv
    python3 -m uv python install --quiet 3.12
    MCSS_PYTHON=$(python3 -m uv python find --managed-python 3.12)
    export MCSS_PYTHON
  fi
  export MCSS_ACCELERATOR=tpu
  prepare_environment requirements.txt
}

# Another process may have the number after a reboot.
is_running() {
  local process
  process=$(cat "$JOB/process" 2>/dev/null) && kill -0 "$process" 2>/dev/null &&
    grep -q launch.train "/proc/$process/cmdline" 2>/dev/null
}

start() {  # flags of launch.train
  ! is_running || fail "training runs already on $(uname -n); stop it first (tpu.sh stop)"
  mkdir -p -- "$JOB"
  rm -f -- "$JOB/exit_code"
  cd -- "$ROOT"
  # The shell around training notes how it ended, also when both are told to stop.
  # shellcheck disable=SC2016  # for that shell to expand
  setsid bash -c 'trap : TERM; code=0; "${@:2}" || code=$?; echo "$code" >"$1"' job "$JOB/exit_code" \
    .venv/bin/python -m launch.train "$@" </dev/null >>"$JOB/log.txt" 2>&1 &
  echo $! >"$JOB/process"
}

# One word or two, after a mark, since ssh programs print lines of their own.
status() {
  local found=none
  if is_running; then
    found=running
  elif [[ -s $JOB/exit_code ]]; then
    found="exit $(cat "$JOB/exit_code")"
  elif [[ -e $JOB/process ]]; then
    found=lost
  fi
  echo "mcss-status: $found"
}

case ${1:-} in
  setup)
    mount_share "$2" "$3"
    setup
    ;;
  start)
    mount_share "$2" "$3"
    start "${@:4}"
    ;;
  status) status ;;
  stop) ! is_running || kill -TERM -- "-$(cat "$JOB/process")" ;;
  *) fail "'${1:-}' is no command; expected setup, start, status or stop" ;;
esac
