#!/usr/bin/env bash
# Trains on a SLURM cluster: see usage below, or --help.
set -euo pipefail
PROGRAM=slurm.sh
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Trains on a SLURM cluster: an array with one element for each flag file and seed, each on one or more nodes, put back
into the queue when its time is up, until it is finished. Run on a login node, in a clone that every node sees.

usage: bash launch/pods/slurm.sh COMMAND [options] [-- flags of launch.train]

Commands:
  setup    Makes .venv here, with the build of JAX that --accelerator names (login nodes have no GPU to go by).
  submit   Submits the array; prints its number. The same command again resumes what is not finished.
  status   What the queue and the accounts say of --job.
  logs     Follows the logs below --workdir.
  cancel   Cancels --job for good: training saves and stops, and nothing is requeued.

submit:
  --partition=NAME     Required; sinfo lists them.
  --flagfile=FILE      Required, may be repeated: the experiments.
  --workdir=FOLDER     Required: absolute, on a file system that every node sees (NFS, Lustre, ...; an object store
                       only where it is mounted). Logs go there. A single element trains in it; of several, each in a
                       folder below it, FLAGFILE_seedN.
  --time=LIMIT         Required: SLURM's time limit of one stay in the queue, for instance 4:00:00 or 1-12.
  --seeds=0,1,2        One element for each seed; without it the seed of the flag file.
  --nodes=1            Nodes of one element, one process on each.
  --gpus=1             GPUs of a node; 0 for none.
  --cpus=16            Cores of a node, for decoding.
  --at_once=N          At most so many elements at a time.
  --grace=120          Seconds before the limit at which training is told to save and stop.
  --requeues=50        How often one element may go back into the queue.
  --job_name=mcss      The job's name.
  --sbatch=OPTION      May be repeated: any other option of sbatch, for instance --sbatch=--account=vision.
setup:
  --accelerator=BUILD  Required: cuda12, cuda13 or cpu.
status, cancel:
  --job=NUMBER         Required: what submit printed.
logs:
  --workdir=FOLDER     Required.
All:
  --dry_run            Prints the exact commands instead of running them.

Example:
  bash launch/pods/slurm.sh setup --accelerator=cuda12
  bash launch/pods/slurm.sh submit --partition=gpu --time=4:00:00 --gpus=4 --workdir=$HOME/runs/h36m --seeds=0,1,2 \
      --flagfile=launch/experiments/human36m/mcss_s1.flags --flagfile=launch/experiments/human36m/baseline_s1.flags \
      -- --data_dir=$HOME/data
END
}

partition='' workdir='' time='' seeds='' nodes=1 gpus=1 cpus=16 at_once='' grace=120 requeues=50 job_name=mcss
accelerator='' job='' flagfiles=() extra=() train=()

read_options() {  # arguments
  while (($#)); do
    case $1 in
      --partition=*) partition=${1#*=} ;;
      --flagfile=*) flagfiles+=("${1#*=}") ;;
      --workdir=*) workdir=${1#*=} ;;
      --time=*) time=${1#*=} ;;
      --seeds=*) seeds=${1#*=} ;;
      --nodes=*) nodes=${1#*=} ;;
      --gpus=*) gpus=${1#*=} ;;
      --cpus=*) cpus=${1#*=} ;;
      --at_once=*) at_once=${1#*=} ;;
      --grace=*) grace=${1#*=} ;;
      --requeues=*) requeues=${1#*=} ;;
      --job_name=*) job_name=${1#*=} ;;
      --sbatch=*) extra+=("${1#*=}") ;;
      --accelerator=*) accelerator=${1#*=} ;;
      --job=*) job=${1#*=} ;;
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

check_submit() {
  local limit='^([0-9]+-)?[0-9]+(:[0-9]+){0,2}$' list='^[0-9]{1,9}(,[0-9]{1,9})*$'
  require partition "$partition" "name the partition to run in, --partition=NAME (sinfo lists them)"
  check_word partition "$partition"
  ((${#flagfiles[@]})) || fail "--flagfile is missing; name an experiment, such as launch/experiments/studio_mcss.flags"
  check_training "$workdir" ${train[@]+"${train[@]}"}
  require time "$time" "set the time limit of one stay in the queue, for instance --time=4:00:00 (sinfo shows the most)"
  [[ $time =~ $limit ]] || fail "--time=$time; expected SLURM's form, for instance 90 (minutes), 4:00:00 or 1-12"
  [[ -z $seeds || $seeds =~ $list ]] || fail "--seeds=$seeds; expected whole numbers, for instance 0,1,2"
  check_number nodes "$nodes" 1
  check_number gpus "$gpus" 0
  check_number cpus "$cpus" 1
  check_number grace "$grace" 30
  check_number requeues "$requeues" 0
  [[ -z $at_once ]] || check_number at_once "$at_once" 1
  check_name job_name "$job_name"
  check_lines ${extra[@]+"${extra[@]}"}
  [[ $dry_run == yes || -x $ROOT/.venv/bin/python ]] ||
    fail "$ROOT/.venv is not there; make it first: bash launch/pods/slurm.sh setup --accelerator=cuda12"
}

# Prints the batch script: which flags each element of the array has.
batch_script() {
  local file stem seed number=0 folder names=' ' cases='' count
  IFS=',' read -r -a list <<<"${seeds:-none}"
  count=$((${#flagfiles[@]} * ${#list[@]}))
  for file in "${flagfiles[@]}"; do
    file=$(repository_path "$file") || exit 1
    stem=$(basename -- "$file" .flags)
    for seed in "${list[@]}"; do
      folder=$workdir
      if ((count > 1)); then
        folder=$workdir/$stem
        [[ $seed == none ]] || folder+=_seed$seed
        [[ $names != *" $folder "* ]] ||
          fail "two elements would train in $folder; give flag files of one name in calls of their own"
        names+="$folder "
      fi
      set -- "--flagfile=$file" "--workdir=$folder" ${train[@]+"${train[@]}"}
      [[ $seed == none ]] || set -- "$@" "--seed=$seed"
      cases+="  $number) set -- $(quoted "$@") ;;"$'\n'
      number=$((number + 1))
    done
  done
  cat <<END
#!/usr/bin/env bash
set -euo pipefail
cd -- $(quoted "$ROOT")
case \$SLURM_ARRAY_TASK_ID in
${cases}esac
exec bash launch/pods/slurm_job.sh $requeues "\$@"
END
}

submit() {
  local script last
  check_submit
  require_program sbatch "run this on a login node of the cluster"
  script=$(batch_script)
  last=$(($(grep -c '^  [0-9]*) set -- ' <<<"$script") - 1))
  set -- "--job-name=$job_name" "--partition=$partition" "--time=$time" "--nodes=$nodes" --ntasks-per-node=1 \
    "--cpus-per-task=$cpus" "--array=0-$last${at_once:+%$at_once}" --requeue "--signal=B:USR1@$grace" \
    --open-mode=append "--output=${workdir//%/%%}/slurm_%A_%a.log"
  ((gpus == 0)) || set -- "$@" "--gpus-per-node=$gpus"
  do_or_show mkdir -p -- "$workdir"  # SLURM does not make the folder of its logs
  feed_or_show "$script" sbatch --parsable "$@" ${extra[@]+"${extra[@]}"}
}

setup() {
  case $accelerator in
    cuda12 | cuda13 | cpu) ;;
    *) fail "--accelerator=$accelerator; expected cuda12, cuda13 or cpu, what the compute nodes have" ;;
  esac
  # shellcheck disable=SC2016  # for that bash to expand
  do_or_show env "MCSS_ACCELERATOR=$accelerator" bash -c 'source "$1" && prepare_environment requirements.txt' \
    setup "$ROOT/launch/environment.sh"
}

command=${1:-}
case $command in '' | --help | -h) usage && exit ;; esac
shift
read_options "$@"
case $command in
  submit) submit ;;
  setup) setup ;;
  status | cancel)
    require job "$job" "give the number that submit printed, --job=NUMBER (squeue --me lists yours)"
    check_word job "$job"
    if [[ $command == status ]]; then
      do_or_show squeue "--jobs=$job"
      do_or_show sacct "--jobs=$job" --duplicates --format=JobID,State,ExitCode,Elapsed,NodeList
    else
      do_or_show scontrol update "JobId=$job" Requeue=0
      do_or_show scancel "$job"
    fi
    ;;
  logs)
    require workdir "$workdir" "name the folder that submit was given"
    logs=("$workdir"/slurm_*.log)
    [[ $dry_run == yes || -e ${logs[0]} ]] || fail "$workdir has no slurm_*.log yet; a job that waits has no log"
    do_or_show tail -n 50 -F -- "${logs[@]}"
    ;;
  *) fail "'$command' is no command; expected setup, submit, status, logs or cancel (--help)" ;;
esac
