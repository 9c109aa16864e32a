#!/usr/bin/env bash
# The batch script's part that does not change: trains on the nodes of this SLURM job, one process a node, and
# puts the job back into the queue when its time runs out before training is finished.
#
#     slurm_job.sh REQUEUES FLAGS-OF-LAUNCH.TRAIN...
#
# launch/pods/slurm.sh submits it with --signal=B:USR1@SECONDS: this shell alone is warned before the time limit,
# and passes the signal on through srun, once (launch.train takes a second one as an order to stop unsaved).
# SIGTERM (preemption, scancel) reaches the processes from SLURM itself. Only the warning leads to a requeue here: a
# preempted job is requeued by SLURM, and a cancelled one must stay cancelled.
set -euo pipefail

requeues=$1
shift
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
train=(.venv/bin/python -m launch.train "$@")
step=(srun "--nodes=$SLURM_JOB_NUM_NODES" "--ntasks=$SLURM_JOB_NUM_NODES" --ntasks-per-node=1)
if [[ -n ${SLURM_CPUS_PER_TASK:-} ]]; then
  step+=("--cpus-per-task=$SLURM_CPUS_PER_TASK")  # not inherited by steps since SLURM 22.05
fi

if ((SLURM_JOB_NUM_NODES > 1)); then
  # Left to find its place by itself, JAX would take each process to own one GPU.
  nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
  # A port of the job's own, in the range that JAX itself uses: array elements may share a node.
  train+=("--coordinator_address=${nodes%%$'\n'*}:$((61440 + SLURM_JOB_ID % 4096))"
    "--num_processes=$SLURM_JOB_NUM_NODES")
  # shellcheck disable=SC2016  # each task expands its own rank
  train=(bash -c 'exec "$@" --process_id="$SLURM_PROCID"' task "${train[@]}")
fi

warned=no interrupted=no
trap 'interrupted=yes' TERM
trap 'interrupted=yes warned=yes; kill -USR1 "${running:-}" 2>/dev/null || true' USR1
"${step[@]}" "${train[@]}" &
running=$!
code=0
wait "$running" || code=$?
while [[ $interrupted == yes ]]; do  # a signal ended the wait, not srun
  interrupted=no code=0
  wait "$running" || code=$?
done

if ((code == 75)) && [[ $warned == yes ]]; then
  if ((${SLURM_RESTART_COUNT:-0} >= requeues)); then
    echo "slurm_job.sh: saved, but not requeued: $requeues requeues are done; submit again to go on" >&2
    exit "$code"
  fi
  echo "slurm_job.sh: time is up and the run is saved; back into the queue" >&2
  exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
