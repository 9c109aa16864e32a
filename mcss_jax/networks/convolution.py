"""The two operations of a ResNet that XLA lowers badly when maps are small or on a CPU, in faster exact forms.

Measured on 2 CPU cores (docs/performance.md): a 3x3 convolution on a 2x2 map runs at 6 to 12 GFLOP/s through
XLA's convolution and at ten times that as one dense layer; max-pooling's backward pass dominates a narrow stem.
Both forms give the same values as `lax` on every platform.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from mcss_jax.errors import UserError


def _dense(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], stride: int
) -> Float[Array, "b h2 w2 d"]:
    """A zero-padded convolution on a small map as one matrix product [b, h*w*c] x [h*w*c, h2*w2*d].

    Taps that would only meet padding are left out; pixels outside an output's window get zero weights.
    """
    b, h, w, c = x.shape
    size, _, _, d = kernel.shape
    pad = size // 2
    rows, columns = (h - 1) // stride + 1, (w - 1) // stride + 1
    zero = jnp.zeros((c, d), kernel.dtype)

    def tap(i: int, j: int, p: int, q: int) -> Float[Array, "c d"]:
        u, v = i - p * stride + pad, j - q * stride + pad
        return kernel[u, v] if 0 <= u < size and 0 <= v < size else zero

    weights = [
        jnp.concatenate([tap(i, j, p, q) for i in range(h) for j in range(w)], axis=0)
        for p in range(rows)
        for q in range(columns)
    ]
    return (x.reshape(b, -1) @ jnp.concatenate(weights, axis=1)).reshape(b, rows, columns, d)


def _patches(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], stride: int
) -> Float[Array, "b h2 w2 d"]:
    """A zero-padded convolution as gathered patches times a matrix."""
    b, h, w, c = x.shape
    size, _, _, d = kernel.shape
    pad = size // 2
    rows, columns = (h - 1) // stride + 1, (w - 1) // stride + 1
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    taps = [
        padded[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    gathered = jnp.concatenate(taps, axis=-1).reshape(-1, size * size * c)
    return (gathered @ kernel.reshape(-1, d)).reshape(b, rows, columns, d)


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], stride: int = 1
) -> Float[Array, "b h2 w2 d"]:
    """Convolution with torchvision's explicit padding of k // 2 on every side (`SAME` pads otherwise at stride 2)."""
    size = kernel.shape[0]
    if size == 1:
        x = x[:, ::stride, ::stride]
        return jnp.matmul(x, kernel[0, 0])
    if max(x.shape[1:3]) <= 2:
        return _dense(x, kernel, stride)
    if max(x.shape[1:3]) <= 2 * stride:
        return _patches(x, kernel, stride)
    pad = size // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


class Conv(nn.Module):
    """Bias-free convolution, He initialisation (fan-out), parameter `kernel` [k, k, in, out]."""

    channels: int
    size: int = 3
    stride: int = 1
    dtype: jnp.dtype = jnp.dtype(jnp.float32)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        shape = (self.size, self.size, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.variance_scaling(2.0, "fan_out", "normal"), shape)
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


def max_pool_3x3_stride_2(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Max-pooling of torchvision's stem (window 3, stride 2, padding 1), as the maximum of strided slices.

    Separable: three slices by rows, then three by columns. At ties the gradient is shared instead of given to the
    first; behind a ReLU ties are zeros and carry none.
    """
    low = jnp.finfo(x.dtype).min
    for axis in (1, 2):
        length = x.shape[axis]
        pads = [(0, 0)] * 4
        pads[axis] = (1, 1)
        padded = jnp.pad(x, pads, constant_values=low)
        out = (length - 1) // 2 + 1
        x = lax.slice_in_dim(padded, 0, 2 * out - 1, 2, axis)
        for offset in (1, 2):
            x = jnp.maximum(x, lax.slice_in_dim(padded, offset, offset + 2 * out - 1, 2, axis))
    return x


def space_to_depth(x: Float[Array, "b h w c"], block: int) -> Float[Array, "b h2 w2 d"]:
    """Non-overlapping block x block patches as channels. Raises UserError when the size is not a multiple."""
    b, h, w, c = x.shape
    if h % block or w % block:
        raise UserError(f"images of {h} x {w} pixels cannot be cut into patches of {block} x {block}")
    x = x.reshape(b, h // block, block, w // block, block, c)
    return jax.numpy.transpose(x, (0, 1, 3, 2, 4, 5)).reshape(b, h // block, w // block, block * block * c)
