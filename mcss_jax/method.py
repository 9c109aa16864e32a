"""What defines a run of the method: network, objective, optimiser and augmentation, as one hashable value.

These dataclasses are the one place where such a setting has its default. Programs derive their flags from them.
"""

import dataclasses
from typing import Literal

from mcss_jax.augment import Augmentation
from mcss_jax.setting import Bounds, Role, setting

EncoderName = Literal["resnet", "vit"]
Depth = Literal[18, 34, 50]
BatchNormGroup = Literal["global", "replica"]
Stem = Literal["conv", "patch4", "patch8"]
MetricLoss = Literal["triplet", "infonce"]
Precision = Literal["float32", "bfloat16"]

COUNT = Bounds(at_least=1)
NOT_NEGATIVE = Bounds(at_least=0)
POSITIVE = Bounds(above=0)


@dataclasses.dataclass(frozen=True)
class Network:
    """Sizes of encoder and regressor."""

    encoder: EncoderName = setting(
        "resnet",
        "resnet: ResNet of --depth; vit: vision transformer of the sizes --vit_*.",
        roles={Role.ENCODER},
    )
    depth: Depth = setting(18, "ResNet depth.", roles={Role.ENCODER})
    width: int = setting(
        64,
        "Channels of the first stage; 64 is torchvision's network.",
        COUNT,
        roles={Role.ENCODER, Role.MEMORY},
    )
    stem: Stem = setting(
        "conv",
        "conv: 7x7 and max-pooling; patch4, patch8: one linear map of patches, for small pictures.",
        roles={Role.ENCODER},
    )
    batchnorm_group: BatchNormGroup = setting(
        "global",
        "Pictures that batch normalisation takes together: global, those of all devices; replica, each device's own.",
    )
    vit_patch: int = setting(8, "Side of a patch, pixels.", COUNT, roles={Role.ENCODER})
    vit_size: int = setting(192, "Length of a token.", COUNT, roles={Role.ENCODER, Role.MEMORY})
    vit_layers: int = setting(6, "Blocks of attention and two dense layers.", COUNT, roles={Role.ENCODER})
    vit_heads: int = setting(3, "Heads of an attention; --vit_size is a multiple.", COUNT)
    embedding_dim: int = setting(128, "Length of the embedding (not public: our choice).", COUNT)
    hidden: int = setting(256, "Width of the regressor's hidden layers.", COUNT)
    layers: int = setting(2, "Hidden layers of the regressor.", COUNT)
    precision: Precision = setting("float32", "Of the encoder's activations.")


@dataclasses.dataclass(frozen=True)
class Objective:
    """The joint loss: pose + `rotation_weight` * rotation + `metric_weight` * metric."""

    metric_loss: MetricLoss = setting(
        "triplet",
        "What is made of the two views of an instant and its negatives: the paper's triplet loss, or InfoNCE.",
        roles={Role.METHOD},
    )
    margin: float = setting(
        0.5,
        "Margin of the triplet loss (not public: our choice).",
        Bounds(above=0, at_most=2, reason="embeddings have length one"),
        roles={Role.METHOD},
    )
    metric_weight: float = setting(
        1.0,
        "Weight of the metric loss (not public: our choice); at 0 unlabelled pictures pass through BatchNorm alone.",
        NOT_NEGATIVE,
        roles={Role.METHOD},
    )
    rotation_weight: float = setting(1.0, "Weight of the rotation loss.", NOT_NEGATIVE)
    min_negative_gap: float = setting(
        0.5,
        "Seconds between an instant and its negatives in the same sequence (not public: our choice).",
        NOT_NEGATIVE,
        roles={Role.METHOD},
    )
    across_groups: bool = setting(
        False,
        "Ablation: instants of other groups (another person, room or clothes) are negatives too; they are told apart "
        "by looks, not by pose.",
        roles={Role.METHOD},
        earlier=True,
    )
    infonce_temperature: float = setting(
        0.1,
        "Temperature of --metric_loss=infonce; what the margin is to triplet.",
        POSITIVE,
        roles={Role.METHOD},
    )
    temperature_start: float = setting(
        0.3,
        "Softness of the hardest negative at the start; 0 is the hardest.",
        NOT_NEGATIVE,
        roles={Role.METHOD},
    )
    temperature_end: float = setting(
        0.3, "Softness at the end of the schedule.", NOT_NEGATIVE, roles={Role.METHOD}
    )
    temperature_steps: int = setting(
        0, "Steps from the first to the second; 0 for the whole run.", NOT_NEGATIVE, roles={Role.METHOD}
    )


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """AdamW, linear warm-up, cosine to zero over `steps`."""

    steps: int = setting(1000, "Updates.", COUNT)
    learning_rate: float = setting(2e-3, "Peak learning rate: linear warm-up, then cosine to zero.", POSITIVE)
    warmup_steps: int = setting(100, "Updates of warm-up.", NOT_NEGATIVE)
    weight_decay: float = setting(1e-2, "AdamW's weight decay, on kernels.", NOT_NEGATIVE)
    clip_norm: float = setting(1.0, "Largest gradient norm.", POSITIVE)


@dataclasses.dataclass(frozen=True)
class Method:
    """Everything the training step needs to know beside its state and batch."""

    network: Network = Network()
    objective: Objective = Objective()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation = Augmentation()

    @property
    def temperature_steps(self) -> int:
        """Steps over which the softness of the hardest negative changes."""
        return self.objective.temperature_steps or self.optimiser.steps
