#!/usr/bin/env bash
# Trains on a Kubernetes cluster by a JobSet: see usage below, or --help.
set -euo pipefail
PROGRAM=kubernetes.sh
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Trains on a Kubernetes cluster with JobSet (jobset.sigs.k8s.io, v0.6 or newer): on GPUs, or on a TPU slice of GKE. One
pod a host; when a pod is preempted or evicted, all are made again and the run resumes.

usage: bash launch/pods/kubernetes.sh COMMAND --name=... [options] [-- flags of launch.train]

Commands:
  image    Builds --image from this repository, as it lies here, and pushes it (docker).
  render   Prints the manifest; add to it what your cluster wants, and kubectl apply it yourself.
  apply    Renders and applies it. The same run under a new --name, or after delete, resumes.
  status   The JobSet and its pods.
  logs     Follows the log of host 0.
  delete   Deletes it; training saves first (two minutes are given).

image:
  --image=NAME        Required: registry/repository:tag, which the cluster can pull.
  --accelerator=BUILD Required: cuda12, cuda13 or tpu.
render, apply:
  --name=NAME         Required: the JobSet's name.
  --image=NAME        Required.
  --claim=NAME        Required: a PersistentVolumeClaim that all pods can write (ReadWriteMany: NFS, Filestore, ...).
                      Checkpoints are written and read through the file system, so an object store serves only where
                      a driver mounts it, and there with folders renamed in one step (hierarchical namespace).
  --mount=/mnt/mcss   Where it is mounted.
  --flagfile=FILE     Required: the experiment, as it lies in the image.
  --workdir=FOLDER    Required: absolute, below --mount.
  --restarts=3        Restarts after failures; preemption and eviction are not counted.
  --selector=KEY=VALUE  May be repeated: labels of the nodes.
  GPUs:
  --gpus=8            GPUs of a host.
  --hosts=1           Hosts.
  TPUs (GKE):
  --tpu=TYPE          Node label, for instance tpu-v5-lite-podslice, tpu-v6e-slice, tpu-v5p-slice, tpu-v4-podslice.
  --topology=4x4      The slice's shape.
  --chips=4           Chips of a host; hosts follow from the shape.
render, apply, status, logs, delete:
  --namespace=default
apply, status, logs, delete:
  --context=NAME      Required, or set MCSS_CONTEXT: which cluster (kubectl config get-contexts).
All:
  --dry_run           Prints the exact commands instead of running them.

Example:
  bash launch/pods/kubernetes.sh image --accelerator=cuda12 --image=registry.example.com/mcss:1
  bash launch/pods/kubernetes.sh apply --context=my-cluster --name=h36m --image=registry.example.com/mcss:1 --gpus=8 \
      --hosts=2 --claim=shared --flagfile=launch/experiments/human36m/mcss_s1.flags --workdir=/mnt/mcss/runs/h36m \
      -- --data_dir=/mnt/mcss/data
END
}

PORT=8476  # of the coordinator, on host 0: any that is free in a pod of one's own
name='' image='' claim='' mount=/mnt/mcss flagfile='' workdir='' restarts=3 gpus='' hosts='' tpu='' topology=''
chips='' namespace=default context=${MCSS_CONTEXT:-} accelerator='' selectors=() train=()

read_options() {  # arguments
  while (($#)); do
    case $1 in
      --name=*) name=${1#*=} ;;
      --image=*) image=${1#*=} ;;
      --claim=*) claim=${1#*=} ;;
      --mount=*) mount=${1#*=} ;;
      --flagfile=*) flagfile=${1#*=} ;;
      --workdir=*) workdir=${1#*=} ;;
      --restarts=*) restarts=${1#*=} ;;
      --gpus=*) gpus=${1#*=} ;;
      --hosts=*) hosts=${1#*=} ;;
      --tpu=*) tpu=${1#*=} ;;
      --topology=*) topology=${1#*=} ;;
      --chips=*) chips=${1#*=} ;;
      --selector=*) selectors+=("${1#*=}") ;;
      --namespace=*) namespace=${1#*=} ;;
      --context=*) context=${1#*=} ;;
      --accelerator=*) accelerator=${1#*=} ;;
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

check_image() {
  local LC_ALL=C pattern='^[A-Za-z0-9][A-Za-z0-9._:/@-]*$'
  require image "$image" \
    "name the image that holds this repository, --image=REGISTRY/NAME:TAG (kubernetes.sh image builds one)"
  [[ $image =~ $pattern ]] || fail "--image=$image; expected REGISTRY/NAME:TAG"
}

# Sets hosts, and chips, from what is asked for.
check_accelerators() {
  local LC_ALL=C shape='^[1-9][0-9]{0,3}(x[1-9][0-9]{0,3}){1,2}$' count=1 side
  if [[ -n $tpu ]]; then
    [[ -z $gpus$hosts ]] ||
      fail "--tpu stands beside --gpus or --hosts; a slice's hosts follow from --topology and --chips"
    check_word tpu "$tpu"
    require topology "$topology" "give the slice's shape, for instance --topology=4x4"
    [[ $topology =~ $shape ]] || fail "--topology=$topology; expected a shape such as 4x4 or 2x2x4"
    chips=${chips:-4}
    check_number chips "$chips" 1
    for side in ${topology//x/ }; do count=$((count * side)); done
    ((count % chips == 0)) ||
      fail "--topology=$topology has $count chips; expected a multiple of the $chips of a host (--chips)"
    hosts=$((count / chips))
  else
    [[ -z $topology$chips ]] ||
      fail "--topology and --chips describe a TPU slice; name its type too, for instance --tpu=tpu-v6e-slice"
    require gpus "$gpus" \
      "say how many GPUs a host has, --gpus=8, or name a TPU slice, --tpu=tpu-v6e-slice --topology=4x4"
    hosts=${hosts:-1}
    check_number gpus "$gpus" 1
    check_number hosts "$hosts" 1
  fi
}

check_manifest() {
  local LC_ALL=C folder='^/[A-Za-z0-9/_.-]+$' label='^[A-Za-z0-9][A-Za-z0-9./_-]*=[A-Za-z0-9][A-Za-z0-9._-]*$' selector
  check_image
  check_accelerators
  require claim "$claim" "name the PersistentVolumeClaim of data and runs (kubectl get pvc)"
  check_word claim "$claim"
  [[ $mount =~ $folder ]] || fail "--mount=$mount; expected an absolute path of letters, digits and / _ . -"
  require flagfile "$flagfile" "name an experiment, such as launch/experiments/studio_mcss.flags"
  check_training "$workdir" ${train[@]+"${train[@]}"}
  [[ $workdir == "$mount"/* ]] ||
    fail "--workdir=$workdir is not below $mount, where --claim is mounted; expected for instance $mount/runs/first"
  flagfile=$(repository_path "$flagfile")
  check_number restarts "$restarts" 0
  for selector in ${selectors[@]+"${selectors[@]}"}; do
    [[ $selector =~ $label ]] || fail "--selector=$selector; expected KEY=VALUE, a label of the nodes"
  done
}

# Prints a string of YAML, and of Kubernetes, which would expand $(NAME) in arguments.
literal() {  # value
  local value=${1//\\/\\\\}
  value=${value//\"/\\\"}
  printf '"%s"' "${value//\$/\$\$}"
}

arguments() {
  local argument
  # Nodes are added one by one: pods may start many minutes apart.
  for argument in "--flagfile=$flagfile" "--workdir=$workdir" --coordinator_timeout=1800 \
    ${train[@]+"${train[@]}"}; do
    printf '              - %s\n' "$(literal "$argument")"
  done
  # On several hosts of a slice JAX learns the same from GKE. Elsewhere it would need a package, and rights, of its own.
  if ((hosts == 1)); then
    echo '              - "--num_processes=1"'
  elif [[ -z $tpu ]]; then
    # shellcheck disable=SC2016  # for Kubernetes to expand
    printf '              - "%s"\n' "--coordinator_address=$name-train-0-0.$name:$PORT" "--num_processes=$hosts" \
      '--process_id=$(JOB_COMPLETION_INDEX)'
  fi
}

annotations() {
  [[ -n $tpu ]] || return 0
  echo '  annotations:'
  echo '    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool'
}

node_labels() {
  local selector
  [[ -n $tpu || ${#selectors[@]} -gt 0 ]] || return 0
  echo '            nodeSelector:'
  [[ -z $tpu ]] || printf '              %s: "%s"\n' cloud.google.com/gke-tpu-accelerator "$tpu" \
    cloud.google.com/gke-tpu-topology "$topology"
  for selector in ${selectors[@]+"${selectors[@]}"}; do
    printf '              %s: "%s"\n' "${selector%%=*}" "${selector#*=}"
  done
}

# A pod that was disrupted, or that saved and left with 75, makes its Job fail by policy, which is not counted. Any
# other failure is: with one host it is an error that a restart would not mend; with several it may be a lost peer.
manifest() {
  local resource=nvidia.com/gpu count=$gpus other=RestartJobSet
  [[ -z $tpu ]] || resource=google.com/tpu count=$chips
  ((hosts > 1)) || other=FailJobSet
  sed '/^$/d' <<END
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
  namespace: $namespace
$(annotations)
spec:
  failurePolicy:
    maxRestarts: $restarts
    rules:
    - action: RestartJobSetAndIgnoreMaxRestarts
      onJobFailureReasons: [PodFailurePolicy]
    - action: $other
  replicatedJobs:
  - name: train
    replicas: 1
    template:
      spec:
        parallelism: $hosts
        completions: $hosts
        completionMode: Indexed
        backoffLimit: 0
        podFailurePolicy:
          rules:
          - action: FailJob
            onPodConditions:
            - type: DisruptionTarget
              status: "True"
          - action: FailJob
            onExitCodes:
              containerName: train
              operator: In
              values: [75]
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 120
$(node_labels)
            tolerations:
            - key: $resource
              operator: Exists
              effect: NoSchedule
            containers:
            - name: train
              image: $(literal "$image")
              workingDir: /opt/mcss
              command: [.venv/bin/python, -m, launch.train]
              args:
$(arguments)
              resources:
                limits:
                  $resource: $count
              volumeMounts:
              - name: shared
                mountPath: $mount
              - name: memory
                mountPath: /dev/shm
            volumes:
            - name: shared
              persistentVolumeClaim:
                claimName: $(literal "$claim")
            - name: memory
              emptyDir:
                medium: Memory
END
}

build() {
  check_image
  case $accelerator in
    cuda12 | cuda13 | tpu) ;;
    *) fail "--accelerator=$accelerator; expected cuda12, cuda13 or tpu, what the hosts have" ;;
  esac
  require_program docker "install it, or build launch/pods/Dockerfile by other means"
  do_or_show docker build "--build-arg=ACCELERATOR=$accelerator" "--file=$ROOT/launch/pods/Dockerfile" \
    "--tag=$image" "$ROOT"
  do_or_show docker push "$image"
}

command=${1:-}
case $command in '' | --help | -h) usage && exit ;; esac
shift
read_options "$@"
case $command in
  image) ;;
  render | apply | status | logs | delete)
    require name "$name" "name the JobSet, for instance --name=mcss"
    check_name name "$name"
    check_name namespace "$namespace"
    ;;
  *) fail "'$command' is no command; expected image, render, apply, status, logs or delete (--help)" ;;
esac
case $command in
  apply | status | logs | delete)
    require context "$context" \
      "name the cluster, --context=NAME, or export MCSS_CONTEXT=NAME (kubectl config get-contexts)"
    check_lines "$context"
    require_program kubectl "install it (kubernetes.io/docs/tasks/tools)"
    ;;
esac
kubectl=(kubectl "--context=$context" "--namespace=$namespace")
case $command in
  image) build ;;
  render)
    check_manifest
    manifest
    ;;
  apply)
    check_manifest
    feed_or_show "$(manifest)" "${kubectl[@]}" apply --filename=-
    ;;
  status) do_or_show "${kubectl[@]}" get jobset,pod "--selector=jobset.sigs.k8s.io/jobset-name=$name" --output=wide ;;
  logs)
    do_or_show "${kubectl[@]}" logs --follow --tail=100 --container=train \
      "--selector=jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0"
    ;;
  delete) do_or_show "${kubectl[@]}" delete jobset "$name" ;;
esac
