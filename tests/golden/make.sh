#!/usr/bin/env bash
# Makes one golden folder with the programs of one commit, whole or in part:
#
#   bash tests/golden/make.sh COMMIT NAME PART...
#
# Parts: data, interrupted, study, lines, gallery, predictions, exported; README.md says what each is. Everything runs
# inside the new folder, so that the paths that it keeps are relative ones.
set -euo pipefail

commit=${1:?commit whose programs write the folder} name=${2:?name of the new folder below tests/golden}
parts=" ${*:3} "
golden=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$golden/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
target=$golden/$name
[[ ! -e $target ]] || { echo "make.sh: $target is there already" >&2; exit 1; }

source_tree=$(mktemp -d)
trap 'git -C "$root" worktree remove --force "$source_tree"' EXIT
git -C "$root" worktree add --detach "$source_tree" "$commit" >/dev/null
export PYTHONPATH=$source_tree JAX_PLATFORMS=cpu
mkdir -p "$target"
cd -- "$target"

run() {
  printf '== launch.%s %s\n' "$1" "${*:2}"
  "$python" -m "launch.$1" "${@:2}"
}
wanted() { [[ $parts == *" $1 "* ]]; }

cat >train.flags <<'FLAGS'
--dataset=synthetic_multiview/tiny
--data_dir=data
--validation_split=train
--labelled=S1
--labelled_batch=4
--blocks=2
--sequences=2
--instants=2
--width=1
--stem=patch8
--embedding_dim=8
--hidden=8
--steps=40
--warmup_steps=1
--log_every=20
--validate_every=40
--validation_stride=1
--save_every=20
--keep=1
FLAGS

# The set `tiny` made smaller still by its own builder: a file of records takes 131 kB, however few they are.
printf '== launch.prepare, one split, two people, two actions, three instants of 32 px\n'
"$python" - --dataset=synthetic_multiview/tiny --data_dir=data <<'PYTHON'
import runpy

from datasets.synthetic_multiview import motion
from datasets.synthetic_multiview.synthetic_multiview_dataset_builder import Builder

motion.ACTIONS = motion.ACTIONS[:2]
tiny = Builder.builder_configs["tiny"]
tiny.subjects, tiny.instants, tiny.size = {"train": (1, 2)}, 3, 32
runpy.run_module("launch.prepare", run_name="__main__", alter_sys=True)
PYTHON

if wanted interrupted; then
  run train --flagfile=train.flags --workdir=runs/interrupted --stop_after=38
  opened=runs/interrupted
fi
if wanted study || wanted lines; then
  run study --base=train.flags --workdir=study --methods=baseline,mcss --amounts=S1 --seeds=0
  rm -r study/runs/baseline_S1_seed0
  opened=${opened:-study/runs/mcss_S1_seed0}
fi
if wanted gallery; then
  run retrieve --workdir="$opened" --split=train --ks=1,2 --save_gallery=gallery.npz
  rm -f "$opened"/retrieval_*.json
fi
if wanted predictions || wanted gallery; then
  mkdir pictures
  "$python" - <<'PYTHON'
import numpy as np
from PIL import Image

across, down = np.meshgrid(np.arange(48), np.arange(64))
for number in range(2):
    picture = np.stack([across * 5, down * 3, (across + down) * 2 + 20 * number], axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(f"pictures/{number}.png")
PYTHON
fi
if wanted predictions; then
  run predict --workdir="$opened" --source=pictures --output=predictions
  rm predictions/viewer.html predictions/predictions.csv
fi
! wanted exported || run export --workdir="$opened" --format=onnx --output=exported

wanted data || rm -r data
wanted study || rm -rf study/runs
find . \( -name '*.png' -path './study/*' -o -name 'contact_sheet*.jpg' -o -name 'events.out*' -o -name '.*' \) \
  -type f -delete
find . -type d -empty -delete
# Orbax notes where a checkpoint lay when it was written. Nothing reads it, and it is a path of one machine.
grep -rlF "$target" . | { xargs -r sed -i "s|$target/||g"; }
du -sb .
