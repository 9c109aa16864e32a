#!/usr/bin/env bash
# Trains on a slice of a Cloud TPU pod: see usage below, or --help.
set -euo pipefail
PROGRAM=tpu.sh
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Trains on a slice of a Cloud TPU pod: queues for it, installs, runs on all its hosts, follows the log, begins again
where it was when the slice is taken away, deletes it. Run from any machine with gcloud.

usage: bash launch/pods/tpu.sh COMMAND --project=... --zone=... --name=... [options] [-- flags of launch.train]

Commands:
  create   Queues for the slice and waits until it stands. Ctrl-C loses nothing: the same command waits on.
  setup    Brings the committed state of this repository to every host, mounts --share, makes .venv there.
  run      Starts training on every host and returns; after a stop, the same command resumes.
  status   The slice's state, and what each host does.
  logs     Follows the log of --host.
  watch    Does all of the above where it is needed, until training is finished: after preemption it deletes the
           slice, queues again and resumes. Leave it running on a machine that stays on, in tmux for instance.
  stop     Training saves and stops on every host; the slice stays, and costs.
  delete   Deletes the slice. Nothing on its own disks is kept.

All:
  --project=NAME    Required, or set MCSS_PROJECT: the Google Cloud project (gcloud projects list).
  --zone=NAME       Required, or set MCSS_ZONE: for instance us-west4-a (gcloud compute tpus locations list).
  --name=NAME       Required, or set MCSS_TPU: the slice's name, yours to choose.
  --dry_run         Prints the exact commands instead of running them.
create, watch:
  --type=TYPE       Required: accelerator type, for instance v5litepod-16, v6e-16, v5p-32, v4-32. The number counts
                    chips for v5e and v6e, cores (two a chip) for v4 and v5p.
  --runtime=NAME    Software of the hosts; by default what Google lists for JAX on that type.
  --spot            A Spot slice: much cheaper, may go at any moment; use watch.
setup, run, watch:
  --share=SOURCE    What every host mounts: gs://BUCKET (by gcsfuse) or SERVER:/FOLDER (NFS, Filestore). Checkpoints
                    are written and read through the file system, so --workdir must lie in it, and data as well.
                    Prefer Filestore, or a bucket with hierarchical namespace: there a folder is renamed in one step.
                    Not needed by a slice with one host, whose disk goes with it.
  --mount=/mnt/mcss Where it is mounted.
run, watch:
  --flagfile=FILE   Required: the experiment, committed.
  --workdir=FOLDER  Required: absolute, for instance /mnt/mcss/runs/first.
watch:
  --interval=60     Seconds between looks.
  --restarts=20     How often training is started on one slice before watch gives up.
logs:
  --host=0          Number of the host.

Example, from nothing to a finished run:
  export MCSS_PROJECT=my-project MCSS_ZONE=us-west4-a MCSS_TPU=mcss
  bash launch/pods/tpu.sh watch --type=v5litepod-16 --spot --share=gs://my-bucket \
      --flagfile=launch/experiments/human36m/mcss_s1.flags --workdir=/mnt/mcss/runs/h36m -- --data_dir=/mnt/mcss/data
  bash launch/pods/tpu.sh delete
END
}

HOST='bash mcss/launch/pods/tpu_host.sh'  # on a host, from its home
project=${MCSS_PROJECT:-} zone=${MCSS_ZONE:-} name=${MCSS_TPU:-} type='' runtime='' spot=() share='' mount=/mnt/mcss
flagfile='' workdir='' interval=60 restarts=20 host=0 train=()

read_options() {  # arguments
  while (($#)); do
    case $1 in
      --project=*) project=${1#*=} ;;
      --zone=*) zone=${1#*=} ;;
      --name=*) name=${1#*=} ;;
      --type=*) type=${1#*=} ;;
      --runtime=*) runtime=${1#*=} ;;
      --spot) spot=(--spot) ;;
      --share=*) share=${1#*=} ;;
      --mount=*) mount=${1#*=} ;;
      --flagfile=*) flagfile=${1#*=} ;;
      --workdir=*) workdir=${1#*=} ;;
      --interval=*) interval=${1#*=} ;;
      --restarts=*) restarts=${1#*=} ;;
      --host=*) host=${1#*=} ;;
      --dry_run) dry_run=yes ;;
      --help | -h) usage && exit ;;
      --)
        shift
        train=("$@")
        return
        ;;
      *) unexpected "$1" ;;
    esac
    shift
  done
}

check_place() {
  require project "$project" "name the Google Cloud project, --project=NAME, or export MCSS_PROJECT=NAME"
  require zone "$zone" "name the zone, for instance --zone=us-west4-a, or export MCSS_ZONE=us-west4-a"
  require name "$name" "name the slice, for instance --name=mcss, or export MCSS_TPU=mcss"
  check_word project "$project"
  check_word zone "$zone"
  check_name name "$name"
  require_program gcloud "install the Google Cloud CLI"
}

check_type() {
  require type "$type" \
    "name the accelerator type, for instance --type=v5litepod-16 (gcloud compute tpus accelerator-types list)"
  check_word type "$type"
  if [[ -z $runtime ]]; then
    case $type in
      v6e-*) runtime=v2-alpha-tpuv6e ;;
      v5p-*) runtime=v2-alpha-tpuv5 ;;
      v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
      v[234]-*) runtime=tpu-ubuntu2204-base ;;
      *) fail "--runtime is missing, and none is known here for --type=$type; see gcloud compute tpus versions list" ;;
    esac
  fi
  check_word runtime "$runtime"
}

check_share() {
  local LC_ALL=C folder='^/[A-Za-z0-9/_.-]+$' source='^(gs://[a-z0-9._-]+|[A-Za-z0-9.-]+:/[A-Za-z0-9/_.-]+)$'
  [[ $mount =~ $folder ]] || fail "--mount=$mount; expected an absolute path of letters, digits and / _ . -"
  [[ -z $share || $share =~ $source ]] || fail "--share=$share; expected gs://BUCKET or SERVER:/FOLDER"
}

check_run() {
  check_share
  require flagfile "$flagfile" "name an experiment, such as launch/experiments/studio_mcss.flags"
  check_training "$workdir" ${train[@]+"${train[@]}"}
  flagfile=$(repository_path "$flagfile")
  [[ -z $share || $workdir == "$mount"/* ]] ||
    fail "--workdir=$workdir is not below $mount, where the hosts mount $share; expected for instance $mount/runs/first"
}

gcloud_tpu() {  # command...
  do_or_show gcloud compute tpus "$@" "--project=$project" "--zone=$zone"
}

on_hosts() {  # all or a number, a line for the shell there
  gcloud_tpu tpu-vm ssh "$name" "--worker=$1" "--command=$2"
}

# Prints the state of the request: nothing, WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDED, FAILED, ...
slice_state() {
  gcloud_tpu queued-resources list "--filter=name~/queuedResources/$name\$" '--format=value(state.state)'
}

create_request() {
  gcloud_tpu queued-resources create "$name" "--node-id=$name" "--accelerator-type=$type" \
    "--runtime-version=$runtime" ${spot[@]+"${spot[@]}"}
}

await_slice() {
  local state
  while true; do
    state=$(slice_state) || return 1
    case $state in
      ACTIVE) return ;;
      FAILED | SUSPEND* | DELETING | '')
        fail "the request for $name is ${state:-gone}; delete it (tpu.sh delete) and create again"
        ;;
      *) say "$name: $state" ;;
    esac
    sleep "$interval"
  done
}

create() {
  if [[ $dry_run == yes ]]; then
    create_request
    slice_state
    return
  fi
  [[ -n $(slice_state) ]] || create_request
  await_slice
}

setup() {
  local bundle changed
  changed=$(git -C "$ROOT" status --porcelain) || return 1
  [[ -z $changed || $dry_run == yes ]] ||
    fail "there are changes that are not committed, and only what is committed reaches the hosts; commit first"
  bundle=$(git -C "$ROOT" rev-parse --absolute-git-dir)/mcss.bundle || return 1
  do_or_show git -C "$ROOT" bundle create --quiet "$bundle" HEAD &&
    gcloud_tpu tpu-vm scp "$bundle" "$name:mcss.bundle" --worker=all &&
    on_hosts all "git init --quiet mcss && cd mcss && git fetch --quiet ../mcss.bundle HEAD && git checkout --quiet\
 --force --detach FETCH_HEAD && bash launch/pods/tpu_host.sh setup $(quoted "$share" "$mount")"
}

start() {
  on_hosts all "$HOST start $(quoted "$share" "$mount" "--flagfile=$flagfile" "--workdir=$workdir" \
    ${train[@]+"${train[@]}"})"
}

# Prints what the hosts' answers call for: wait, finished, start or give_up. An exit code of 75 is a run that was
# stopped and saved, one above 128 a process that was killed; a peer that is lost ends the others with any code.
verdict() {  # what the hosts printed
  local answers
  answers=$(sed -n 's/.*mcss-status: //p' <<<"$1")
  if [[ -z $answers ]] || grep -qx running <<<"$answers"; then
    echo wait
  elif grep -qxE 'none|lost|exit (75|1[2-9][0-9]|2[0-9][0-9])' <<<"$answers"; then
    echo start
  elif grep -qvx 'exit 0' <<<"$answers"; then
    echo give_up
  else
    echo finished
  fi
}

renew() {  # state
  if [[ -n $1 ]]; then
    say "$name is $1: deleting it and queueing again"
    gcloud_tpu queued-resources delete "$name" --force --quiet || return 1
  fi
  create_request
}

watch() {
  local state answers ready=no starts=0
  while true; do
    state=$(slice_state) || state=UNKNOWN
    case $state in
      ACTIVE)
        if [[ $ready == no ]]; then
          if setup; then ready=yes; fi
        fi
        if [[ $ready == yes ]]; then
          answers=$(on_hosts all "$HOST status") || answers=''
          case $(verdict "$answers") in
            finished) say "training is finished; tpu.sh delete ends the cost of $name" && return ;;
            give_up) fail "training failed and would fail again: see tpu.sh logs; the slice still stands" ;;
            start)
              ((starts < restarts)) ||
                fail "training was started $starts times on this slice and did not finish: see tpu.sh logs"
              starts=$((starts + 1))
              start || say "the hosts could not be reached"
              ;;
          esac
        fi
        ;;
      '' | FAILED | SUSPENDED)
        ready=no starts=0
        renew "$state" || say "queueing failed; trying again"
        ;;
      *) say "$name: $state" ;;
    esac
    sleep "$interval"
  done
}

show_watch() {
  echo '# Until training is finished: what follows is done where the state and the hosts call for it.'
  slice_state
  gcloud_tpu queued-resources delete "$name" --force --quiet
  create_request
  setup
  on_hosts all "$HOST status"
  start
}

command=${1:-}
case $command in '' | --help | -h) usage && exit ;; esac
shift
read_options "$@"
check_number interval "$interval" 0
check_number restarts "$restarts" 1
check_number host "$host" 0
case $command in
  create | setup | run | status | logs | watch | stop | delete) check_place ;;
  *) fail "'$command' is no command; expected create, setup, run, status, logs, watch, stop or delete (--help)" ;;
esac
case $command in create | watch) check_type ;; esac
case $command in setup) check_share ;; run | watch) check_run ;; esac
case $command in
  create) create ;;
  setup) setup ;;
  run) start ;;
  status)
    slice_state
    on_hosts all "$HOST status"
    ;;
  logs) on_hosts "$host" 'tail -n 100 -F mcss_job/log.txt' ;;
  watch) if [[ $dry_run == yes ]]; then show_watch; else watch; fi ;;
  stop) on_hosts all "$HOST stop" ;;
  delete) gcloud_tpu queued-resources delete "$name" --force ;;
esac
