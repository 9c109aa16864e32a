"""Makes a folder that training can start from out of a torchvision or timm ResNet, or timm's ViT, in safetensors.

    python -m launch.import_weights --source=resnet18.safetensors --workdir=runs/imagenet_resnet18
    python -m launch.train --init_from=runs/imagenet_resnet18 ...
    python -m launch.import_weights --source=vit_small_patch16_224.safetensors --workdir=runs/imagenet_vit_s16
    python -m launch.train --init_from=runs/imagenet_vit_s16 --encoder=vit --vit_patch=16 --vit_size=384 \\
        --vit_layers=12 --vit_heads=6 ...

Names and shapes are checked one by one, those that differ are listed, and values must be finite. Files that may hold
pickled objects (.pth, .pt, .bin, .npz) are refused. The input that such weights expect is what
`mcss_jax.networks.pixels.standardise` makes.

Not every network with a plain ResNet's tensors is one, and its file does not tell: see that yours has no anti-aliased
strides (timm's resnetaa50, resnetblur18, resnetblur50) and no bottleneck with the stride in its first convolution
(Caffe's).
"""

import sys

from launch.cli import flags, progress
from launch.interchange.import_weights import ImportWeights, import_weights
from launch.runs import run_folder
from mcss_jax.errors import UserError


def main(config: ImportWeights) -> None:
    """Imports and says how to go on."""
    try:
        folder = import_weights(config)
    except UserError as error:
        for listing in getattr(error, "__notes__", ()):
            progress.say(listing, sys.stderr)
        raise
    card = run_folder.read_json(folder / run_folder.CARD)
    progress.say(f"imported {card[run_folder.IMPORTED]} into {folder}")
    progress.say(
        f"start from it: python -m launch.train --init_from={config.workdir} --workdir=runs/NAME ..."
    )


if __name__ == "__main__":
    flags.run(ImportWeights, "launch.import_weights", __doc__ or "", main)
