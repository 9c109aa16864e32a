"""Image encoder: ResNet-18/34/50 to features and a unit-norm pose embedding.

At full width and with the `conv` stem the topology, strides and padding are torchvision's (v1.5: the stride sits
on the 3x3 convolution of a bottleneck), so that its weights can be brought in. `width` scales every stage.
"""

from typing import get_args

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mcss_jax.method import Stem
from mcss_jax.networks.convolution import Conv, max_pool_3x3_stride_2, space_to_depth
from mcss_jax.networks.pixels import unit

STAGES: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class _Norm(nn.Module):
    """Batch normalisation over the batch and, when `axis_name` is given, over every replica of that axis."""

    axis_name: str | None
    dtype: jnp.dtype
    zero_scale: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,  # the old running statistic's share; PyTorch's 0.1 is the new one's
            epsilon=1e-5,
            dtype=self.dtype,
            scale_init=nn.initializers.zeros if self.zero_scale else nn.initializers.ones,
            axis_name=self.axis_name if train else None,
            name="bn",
        )(x)


class _Block(nn.Module):
    """Residual block: two 3x3 convolutions, or a bottleneck of 1x1, 3x3, 1x1 with four times the channels."""

    channels: int
    stride: int
    bottleneck: bool
    axis_name: str | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 d"]:
        out = self.channels * (4 if self.bottleneck else 1)
        sizes = (1, 3, 1) if self.bottleneck else (3, 3)
        strides = (1, self.stride, 1) if self.bottleneck else (self.stride, 1)
        widths = (*(self.channels,) * (len(sizes) - 1), out)
        last = len(sizes)
        y = x
        for i, (size, stride, width) in enumerate(zip(sizes, strides, widths, strict=True), start=1):
            y = Conv(width, size, stride, self.dtype, name=f"conv{i}")(y)
            # A zero last scale starts every block as the identity, which steadies short schedules.
            y = _Norm(self.axis_name, self.dtype, zero_scale=i == last, name=f"bn{i}")(y, train)
            y = nn.relu(y) if i < last else y
        if x.shape[-1] != out or self.stride != 1:
            x = Conv(out, 1, self.stride, self.dtype, name="downsample_conv")(x)
            x = _Norm(self.axis_name, self.dtype, name="downsample_bn")(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """`(features, embedding) = ResNet(...).apply(variables, normalised_images, train)`.

    Attributes:
      depth: 18, 34 or 50.
      width: channels of the first stage; 64 is torchvision's network.
      embedding_dim: length of the unit-norm embedding.
      stem: `conv`, torchvision's 7x7/2 and max-pooling; `patch4` or `patch8`, one linear map of patches that do not
        overlap: the same or half the resolution for a fraction of the time, for small pictures on a CPU.
      dtype: of activations; parameters, statistics, features and embedding stay float32.
      axis_name: batch statistics are shared over this mapped axis.

    Input [b, h, w, 3] as `pixels.standardise` gives it, h and w multiples of 32 at best. Output: features
    [b, width * 8 (* 4 for depth 50)] after global average pooling, embedding [b, embedding_dim].
    Raises ValueError for an unknown depth or stem.
    """

    depth: int = 18
    width: int = 64
    embedding_dim: int = 128
    stem: str = "conv"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool = False
    ) -> tuple[Float[Array, "b f"], Float[Array, "b d"]]:
        if self.depth not in STAGES:
            raise ValueError(f"encoder depth {self.depth} is unknown; choose from {sorted(STAGES)}")
        dtype = jnp.dtype(self.dtype)
        x = images.astype(dtype)
        if self.stem == "conv":
            x = Conv(self.width, 7, 2, dtype, name="conv1")(x)
            x = nn.relu(_Norm(self.axis_name, dtype, name="bn1")(x, train))
            x = max_pool_3x3_stride_2(x)
        elif self.stem in ("patch4", "patch8"):
            x = Conv(self.width, 1, 1, dtype, name="conv1")(space_to_depth(x, int(self.stem[-1])))
            x = nn.relu(_Norm(self.axis_name, dtype, name="bn1")(x, train))
        else:
            raise ValueError(f"encoder stem {self.stem!r} is unknown; choose from {get_args(Stem)}")
        for stage, blocks in enumerate(STAGES[self.depth]):
            for block in range(blocks):
                x = _Block(
                    channels=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    bottleneck=self.depth == 50,
                    axis_name=self.axis_name,
                    dtype=dtype,
                    name=f"layer{stage + 1}_{block}",
                )(x, train)
        # In float32 from here, whatever the activations are: distances between embeddings are small.
        features = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        return features, unit(nn.Dense(self.embedding_dim, name="embedding")(features))
