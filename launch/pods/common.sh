# shellcheck shell=bash
# What the launchers share: refusals, and commands that are shown instead of run. For sourcing, by a script that
# has set PROGRAM. Works in bash 3.2 (macOS) too.

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
dry_run=no  # yes: commands are shown, not run

say() { printf '[%s] %s\n' "$PROGRAM" "$*" >&2; }

fail() {
  printf '%s: error: %s\n' "$PROGRAM" "$*" >&2
  exit 1
}

unexpected() {  # argument
  fail "unexpected argument '$1'; options are --name=value, flags of launch.train follow after --, --help lists both"
}

require() {  # name, value, what to do
  [[ -n $2 ]] || fail "--$1 is missing; $3"
}

require_program() {  # name, where it comes from; what is only shown needs none
  [[ $dry_run == yes ]] || command -v "$1" >/dev/null || fail "$1 is not on PATH; $2"
}

check_name() {  # option, value: safe in a host name, a label, a shell
  local LC_ALL=C pattern='^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$'
  [[ $2 =~ $pattern ]] ||
    fail "--$1=$2; expected up to 40 small letters, digits and hyphens, a letter first and no hyphen last"
}

check_word() {  # option, value: an identifier of somebody else's, such as a partition or a machine type
  local LC_ALL=C pattern='^[A-Za-z0-9][-A-Za-z0-9_.:,]*$'
  [[ $2 =~ $pattern ]] || fail "--$1=$2; expected letters, digits and - _ . : , only"
}

check_number() {  # option, value, the least that is allowed
  local LC_ALL=C pattern='^(0|[1-9][0-9]{0,5})$'
  if ! [[ $2 =~ $pattern ]] || (($2 < $3)); then
    fail "--$1=$2; expected a whole number of at least $3"
  fi
}

# Control characters have no place in a flag, and would end a line of a manifest or of a script.
check_lines() {  # arguments
  local argument
  for argument; do
    [[ $argument != *[[:cntrl:]]* ]] ||
      fail "$(printf '%q' "$argument") holds a line break or another control character; expected one line"
  done
}

# Prints a flag file's path within the repository, where launch.train runs on every host.
repository_path() {  # path, from here or from the repository's root
  local file=$1
  [[ -f $file ]] || file=$ROOT/$1
  [[ -f $file ]] || fail "--flagfile=$1 is not a file; expected one such as launch/experiments/studio_mcss.flags"
  file=$(CDPATH='' cd -- "$(dirname -- "$file")" && pwd -P)/$(basename -- "$file")
  [[ $file == "$ROOT"/* ]] ||
    fail "--flagfile=$1 lies outside $ROOT, which is all that the hosts have; copy it to launch/experiments"
  printf '%s\n' "${file#"$ROOT"/}"
}

# Runs and data are read through the file system (mcss_jax/storage/checkpoint.py), and every host must see the same one.
check_training() {  # workdir, flags of launch.train...
  local argument
  require workdir "$1" "name the run's folder on a file system that every host sees"
  check_lines "$@"
  [[ $1 == /* ]] || fail "--workdir=$1; expected an absolute path on a file system that every host sees"
  shift
  for argument; do
    case $argument in
      --workdir* | --flagfile*) fail "$argument stands after --; give it before" ;;
      --coordinator_address* | --num_processes* | --process_id*)
        fail "$argument stands after --; who the hosts are is known here, leave it out"
        ;;
      --*=*://*)
        fail "$argument is an address; data is read through the file system: mount the bucket or share on every" \
          "host and name the folder"
        ;;
      --*) ;;
      *) fail "'$argument' stands after --; expected flags of launch.train, --name=value" ;;
    esac
  done
}

# Prints words as one line that any shell reads back as the same words.
quoted() {  # words
  local LC_ALL=C word line='' mark="'" escaped="'\\''"
  for word; do
    case $word in
      '' | *[!A-Za-z0-9_@%+=:,./-]*) word=$mark${word//$mark/$escaped}$mark ;;
    esac
    line="$line $word"
  done
  printf '%s\n' "${line# }"
}

do_or_show() {  # command
  if [[ $dry_run == yes ]]; then quoted "$@"; else "$@"; fi
}

feed_or_show() {  # text, the command that reads it
  local text=$1
  shift
  if [[ $dry_run == yes ]]; then
    printf "%s <<'END_OF_INPUT'\n%s\nEND_OF_INPUT\n" "$(quoted "$@")" "$text"
  else
    printf '%s\n' "$text" | "$@"
  fi
}
