# shellcheck shell=bash
# Finds Python, makes .venv at the repository's root and keeps it up to date. For sourcing:
#
#     source launch/environment.sh
#     use_environment .venv-other       # only for another folder than .venv
#     prepare_environment requirements.txt [more requirement files]
#
# MCSS_PYTHON names the Python to use, MCSS_ACCELERATOR the build of JAX (cpu, cuda12, cuda13, tpu), where the
# automatic choice is not wanted. Works in bash 3.2 (macOS) too.

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

use_environment() {  # name of a folder at the repository's root
  VENV=$ROOT/$1
  STAMP=$VENV/.requirements      # what is installed, one line a requirements file; written last
  UNFINISHED=$VENV/.unfinished   # there while pip works: a run that finds it starts afresh
}
use_environment .venv

say() { printf '[environment] %s\n' "$*"; }
complain() { printf '[environment] %s\n' "$*" >&2; }

# Prints the version of a Python (3.11, 3.12, 3.13) if it is one that this project runs on; fails otherwise.
# A pyenv shim exists on PATH even where its Python does not run, so only running it tells.
python_version() {
  "$1" -c 'import sys, venv, ensurepip
v = sys.version_info[:2]
print("%d.%d" % v)
sys.exit(not (3, 11) <= v <= (3, 13))' 2>/dev/null
}

# Prints the path of the first fitting Python on PATH: the newest one that is there by its version.
find_python() {
  local name path
  for name in ${MCSS_PYTHON:+"$MCSS_PYTHON"} python3.13 python3.12 python3.11 python3 python; do
    while IFS= read -r path; do
      if python_version "$path" >/dev/null; then
        printf '%s\n' "$path"
        return 0
      fi
    done < <(type -aP -- "$name")
    if [[ $name == "${MCSS_PYTHON:-}" ]]; then
      complain "MCSS_PYTHON is $name, which does not run as Python 3.11 to 3.13 with the venv module."
      return 1
    fi
  done
  complain "No Python 3.11 to 3.13 with the venv module was found on PATH (python3 here is" \
    "$(python3 -V 2>/dev/null || echo missing)). Install one, for instance: apt install python3.12-venv," \
    "dnf install python3.12, brew install python@3.12; or set MCSS_PYTHON to its path."
  return 1
}

# Prints the build of JAX for this machine: cuda13, cuda12, tpu or cpu. Nothing is asked over a network.
detect_accelerator() {
  local gpus device
  if [[ -n ${MCSS_ACCELERATOR:-} ]]; then
    printf '%s\n' "$MCSS_ACCELERATOR"
    return
  fi
  if [[ $(uname -s) == Linux ]]; then
    if gpus=$(nvidia-smi --query-gpu=driver_version,compute_cap --format=csv,noheader 2>/dev/null) &&
      [[ -n $gpus ]]; then
      cuda_build "$gpus"
      return
    fi
    # The ids of Google's TPU chips on the PCI bus, as JAX itself knows them.
    for device in "${PCI_DEVICES:-/sys/bus/pci/devices}"/*; do
      if [[ $(cat "$device/vendor" 2>/dev/null) == 0x1ae0 ]]; then
        case $(cat "$device/device" 2>/dev/null) in
          0x0027 | 0x0056 | 0x005e | 0x0062 | 0x0063 | 0x006f | 0x0076) echo tpu && return ;;
        esac
      fi
    done
  fi
  echo cpu
}

# Takes lines of `driver, compute capability` and prints the build that every one of these GPUs can run:
# CUDA 13 needs driver 580 and compute capability 7.5, CUDA 12 needs driver 525.
cuda_build() {
  local driver capability build=cuda13
  while IFS=', ' read -r driver capability; do
    driver=${driver%%.*}
    capability=${capability//[!0-9]/}
    if ! [[ $driver =~ ^[0-9]+$ ]] || ((driver < 525)); then
      complain "The NVIDIA driver (${driver:-unknown}) is older than 525, the oldest that JAX supports: using the CPU."
      echo cpu
      return
    fi
    if ((driver < 580)) || ((${capability:-0} < 75)); then
      build=cuda12
    fi
  done <<<"$1"
  echo "$build"
}

# The line of STAMP for one requirements file: its name, checksum, Python and build of JAX.
stamp_line() {
  printf '%s %s python%s %s\n' "$1" "$(cksum <"$ROOT/$1" | tr -s ' \t' '-')" "$2" "$3"
}

is_up_to_date() {  # version, accelerator, files...
  local version=$1 accelerator=$2 file
  shift 2
  [[ -f $STAMP && ! -e $UNFINISHED ]] || return 1
  for file in "$@"; do
    grep -Fqx -- "$(stamp_line "$file" "$version" "$accelerator")" "$STAMP" || return 1
  done
}

# True if the environment cannot be trusted: cut short, its Python gone, or made for another accelerator.
is_unusable() {
  [[ -e $UNFINISHED ]] || ! python_version "$VENV/bin/python" >/dev/null ||
    { [[ -f $STAMP ]] && grep -Fvq -- " $1" "$STAMP"; }
}

prepare_environment() {
  local accelerator version python file kept='' extra='' arguments=()
  accelerator=$(detect_accelerator)
  case $accelerator in
    cpu) ;;
    cuda12 | cuda13 | tpu) extra="jax[$accelerator]" ;;
    *)
      complain "MCSS_ACCELERATOR is $accelerator; expected cpu, cuda12, cuda13 or tpu."
      return 1
      ;;
  esac
  if version=$(python_version "$VENV/bin/python") && is_up_to_date "$version" "$accelerator" "$@"; then
    return 0
  fi

  if is_unusable "$accelerator"; then
    python=$(find_python) || return 1
    say "Making $VENV with Python $(python_version "$python") ($python)"
    if ! { rm -rf -- "$VENV" && mkdir -- "$VENV" && : >"$UNFINISHED" && "$python" -m venv "$VENV"; }; then
      complain "Could not make $VENV: see the message above."
      return 1
    fi
  fi

  version=$(python_version "$VENV/bin/python")
  for file in "$@"; do
    arguments+=(-r "$ROOT/$file")
  done
  say "Installing $* for $accelerator (minutes the first time)"
  : >"$UNFINISHED"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    "${arguments[@]}" ${extra:+"$extra"} || {
    complain "pip could not install $*: see its message above. Run the same command again to retry."
    return 1
  }

  # The lines of other requirement files stay true: this run did not take their packages away.
  if [[ -f $STAMP ]]; then
    kept=$(cat -- "$STAMP")
    for file in "$@"; do
      kept=$(grep -v -- "^$file " <<<"$kept" || true)
    done
  fi
  {
    [[ -z $kept ]] || printf '%s\n' "$kept"
    for file in "$@"; do stamp_line "$file" "$version" "$accelerator"; done
  } >"$STAMP.new"
  mv -- "$STAMP.new" "$STAMP"
  rm -f -- "$UNFINISHED"
  say "Ready."
}
