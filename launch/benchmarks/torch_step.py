"""The training step in PyTorch, for comparison only: same network, augmentation, losses and optimiser.

Written as one would for PyTorch: planes first in the augmentation, channels-last in the network, fused AdamW.
Modules are named as the flax ones, so that `load` can copy weights and a test can hold the two equal.
"""

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import traverse_util
from torch import Tensor, nn
from torch.nn import functional as F

from launch.benchmarks.timing import in_turn
from launch.runs import settings
from mcss_jax import geometry, skeleton
from mcss_jax.augment import Augmentation
from mcss_jax.errors import UserError
from mcss_jax.method import Network, Objective
from mcss_jax.mining import TIME_TOLERANCE
from mcss_jax.networks import pixels, resnet
from mcss_jax.training.batch import Batch, Unlabelled
from mcss_jax.training.state import PoseStatistics


class Block(nn.Module):
    """`mcss_jax.networks.resnet`'s residual block."""

    def __init__(self, before: int, channels: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = channels * (4 if bottleneck else 1)
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        widths = (before, *(channels,) * (len(sizes) - 1), out)
        self.count = len(sizes)
        for i, (size, step) in enumerate(zip(sizes, strides, strict=True)):
            conv = nn.Conv2d(widths[i], widths[i + 1], size, step, size // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.has_downsample = before != out or stride != 1
        if self.has_downsample:
            self.downsample_conv = nn.Conv2d(before, out, 1, stride, bias=False)
            self.downsample_bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y, inplace=True) if i < self.count else y
        if self.has_downsample:
            x = self.downsample_bn(self.downsample_conv(x))
        return F.relu(x + y, inplace=True)


class Encoder(nn.Module):
    """`mcss_jax.networks.resnet.ResNet`: normalised pictures [b, 3, h, w] to features and unit-norm embedding."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, bottleneck = network.width, network.depth == 50
        if network.stem == "conv":
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        else:
            patch = int(network.stem[-1])
            self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if network.stem == "conv" else nn.Identity()
        self.blocks = []
        before = width
        for stage, count in enumerate(resnet.STAGES[network.depth]):
            for i in range(count):
                channels, stride = width * 2**stage, 2 if stage > 0 and i == 0 else 1
                self.blocks.append(f"layer{stage + 1}_{i}")
                self.add_module(self.blocks[-1], Block(before, channels, stride, bottleneck))
                before = channels * (4 if bottleneck else 1)
        self.features = before
        self.embedding = nn.Linear(before, network.embedding_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        for name in self.blocks:
            x = getattr(self, name)(x)
        features = x.mean(dim=(2, 3)).float()
        return features, F.normalize(self.embedding(features), dim=1)


class Regressor(nn.Module):
    """`mcss_jax.networks.regressor.Regressor`."""

    def __init__(self, network: Network, features: int) -> None:
        super().__init__()
        self.layers = network.layers
        for name, size, out in (("pose", network.embedding_dim, 51), ("rotation", features, 6)):
            for layer in range(network.layers):
                self.add_module(
                    f"{name}_hidden{layer}", nn.Linear(size if layer == 0 else network.hidden, network.hidden)
                )
            self.add_module(f"{name}_out", nn.Linear(network.hidden, out))

    def forward(self, embedding: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        def head(x: Tensor, name: str) -> Tensor:
            for layer in range(self.layers):
                x = F.relu(getattr(self, f"{name}_hidden{layer}")(x))
            return getattr(self, f"{name}_out")(x)

        pose = head(embedding * math.sqrt(embedding.shape[1]), "pose")
        return pose.view(-1, skeleton.NUM_JOINTS, 3), head(features, "rotation")


class PoseNetwork(nn.Module):
    """`networks.pose_network.PoseNetwork`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.encoder = Encoder(network)
        self.regressor = Regressor(network, self.encoder.features)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, embedding = self.encoder(images)
        return embedding, *self.regressor(embedding, features)


def load(network: PoseNetwork, variables: Mapping[str, Any]) -> None:
    """Copies flax variables (`params` and `batch_stats`) into the network."""
    names = {
        "kernel": "weight",
        "scale": "weight",
        "bias": "bias",
        "mean": "running_mean",
        "var": "running_var",
    }
    state = network.state_dict()
    for collection in ("params", "batch_stats"):
        for path, leaf in traverse_util.flatten_dict(variables[collection]).items():
            *modules, last = path
            name = ".".join([*(module for module in modules if module != "bn"), names[last]])
            value = np.asarray(leaf)
            if (
                value.ndim == 4
            ):  # the patch stem's kernel is 1 x 1 on patches; here it is as large as they are
                out, into, size, _ = state[name].shape
                value = value.reshape(size, size, into, out).transpose(3, 2, 0, 1)
            elif value.ndim == 2:
                value = value.T
            state[name].copy_(torch.tensor(value))


def _resampling(start: Tensor, side: Tensor, output: Tensor) -> Tensor:
    size = output.shape[-1]
    centre = start[:, None] + (output + 0.5) * side[:, None] / size - 0.5
    return (1 - (centre.clamp(0, size - 1)[:, :, None] - torch.arange(size)).abs()).clamp_min_(0)


def augment(images: Tensor, views: int, config: Augmentation) -> Tensor:
    """`mcss_jax.augment.augment` with PyTorch's own draws: uint8 [b * views, s, s, 3] to float [b * views, 3, s, s].

    Rows of all channels side by side, [n, s, 3, s], make the crop two batched products: half the time of planes.
    """
    n, size = images.shape[:2]
    pixel = torch.arange(size, dtype=torch.float32)
    x = images.permute(0, 1, 3, 2).contiguous().float()
    if config.colour:
        angle, saturation, contrast, brightness = config.colour * (2 * torch.rand(4, n, 1, 1) - 1)
        angle, saturation, contrast, brightness = (
            math.pi * angle,
            1 + saturation,
            1 + 0.5 * contrast,
            80 * brightness,
        )
        grey = torch.full((3, 3), 1 / 3)
        cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
        turn = angle.cos() * (torch.eye(3) - grey) + angle.sin() * cross
        matrix = contrast * (grey + saturation * turn)
        offset = 128 * (1 - contrast) + brightness
        x = (matrix[:, None] @ x).add_(offset[:, None]).clamp_(0, 255)
    if config.occlusion:
        extent = size * (0.1 + 0.3 * torch.rand(2, n, 1))
        low = torch.rand(2, n, 1) * (size - extent)
        rows, columns = (pixel >= low) & (pixel < low + extent)
        rows = rows & (torch.rand(n, 1) < config.occlusion)
        x = torch.where(rows[:, :, None, None] & columns[:, None, None, :], 255 * torch.rand(n, 1, 3, 1), x)
    flipped = ((torch.rand(n // views) < 0.5) & config.flip).repeat_interleave(views)
    column = torch.where(flipped[:, None], pixel.flip(0), pixel)
    side = size * (1 + config.scale * (2 * torch.rand(n) - 1))
    corner = (size - side) / 2 + size * config.shift * (2 * torch.rand(2, n) - 1)
    if config.scale or config.shift:
        x = _resampling(corner[1], side, pixel.expand(n, size)) @ x.view(n, size, -1)
    x = x.view(n, -1, size) @ _resampling(corner[0], side, column).transpose(1, 2)
    return x.view(n, size, 3, size).transpose(1, 2)


def triplet(embedding: Tensor, part: Unlabelled, objective: Objective) -> Tensor:
    """Hinge on the soft-hardest negative, mean over anchors that have one (`mcss_jax.losses`): here, all must."""
    pairs = embedding.view(-1, 2, embedding.shape[1])
    group, sequence, time = (x.repeat_interleave(2) for x in (part.group, part.sequence, part.time))
    same_sequence = sequence[:, None] == sequence[None, :]
    gap = (time[:, None] - time[None, :]).abs()
    apart = ~same_sequence | ((gap >= objective.min_negative_gap - TIME_TOLERANCE) & (gap > 0))
    mask = torch.where(group[:, None] == group[None, :], apart, torch.tensor(objective.across_groups))
    square = 2 - 2 * embedding @ embedding.T
    distance = square.clamp_min(1e-12).sqrt()
    temperature = objective.temperature_start
    if temperature > 0:
        scores = torch.where(mask, -distance / temperature, -torch.inf)
        negative = -temperature * (scores.logsumexp(1) - mask.sum(1).log())
    else:
        negative = torch.where(mask, distance, torch.inf).amin(1)
    positive = (pairs[:, 0] - pairs[:, 1]).norm(dim=1).repeat_interleave(2)
    has_negative = mask.any(1)
    # Not `hinge[has_negative]`, which an accelerator would have to be waited for.
    hinge = F.relu(objective.margin + positive - negative)
    return torch.where(has_negative, hinge, 0.0).sum() / has_negative.sum().clamp_min(1)


def rotation_from_6d(columns: Tensor) -> Tensor:
    """Gram-Schmidt, as `mcss_jax.geometry.rotation_from_6d` without its degenerate cases."""
    first = F.normalize(columns[:, :3], dim=1)
    second = columns[:, 3:] - (columns[:, 3:] * first).sum(1, keepdim=True) * first
    second = F.normalize(second, dim=1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


class Step:
    """One update after another on one batch, as `mcss_jax.training.train_step.train_step` makes them.

    Targets of the pose losses are those of the pictures before augmentation: made once, not part of the step. Tensors
    lie where PyTorch makes them by default.
    """

    def __init__(
        self,
        config: settings.Train,
        batch: Batch,
        statistics: PoseStatistics,
    ):
        self.method = settings.method_of(config)
        self.network: nn.Module = PoseNetwork(self.method.network).to(memory_format=torch.channels_last)
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        optimiser = self.method.optimiser
        self.optimiser = torch.optim.AdamW(
            [
                {"params": kernels, "weight_decay": optimiser.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=optimiser.learning_rate,
            fused=True,
        )
        self.device = kernels[0].device
        self.batch = jax.tree.map(torch.tensor, batch)
        labelled = batch.labelled
        assert labelled is not None
        turn = geometry.look_through(jnp.asarray(labelled.intrinsics), jnp.asarray(labelled.box))
        canonical, rotation = skeleton.canonicalise(jnp.matmul(labelled.pose, turn, precision="highest"))
        mean, scale = statistics
        self.pose = torch.tensor(np.asarray((canonical - mean[None]) / scale))
        self.rotation = torch.tensor(np.asarray(rotation))
        std, mean = torch.tensor(pixels.IMAGENET_STD), torch.tensor(pixels.IMAGENET_MEAN)
        self.scale, self.shift = (1 / (255 * std)).view(3, 1, 1), (mean / std).view(3, 1, 1)
        self.forward: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] = self.network
        if config.network.precision == "bfloat16":
            self.forward = torch.autocast(self.device.type, torch.bfloat16)(self.forward)

    def loss(self) -> Tensor:
        """The joint loss of the freshly augmented batch."""
        labelled, unlabelled = self.batch.labelled, self.batch.unlabelled
        count, augmentation, objective = len(self.pose), self.method.augmentation, self.method.objective
        images = torch.cat(
            [
                augment(labelled.images, 1, augmentation),
                augment(unlabelled.images.flatten(0, 1), 2, augmentation),
            ]
        )
        images = torch.addcmul(-self.shift, images, self.scale).contiguous(memory_format=torch.channels_last)
        embedding, pose, rotation = self.forward(images)
        turned = rotation_from_6d(rotation[:count])
        return (
            (pose[:count] - self.pose).abs().mean()
            + objective.rotation_weight * (turned - self.rotation).square().sum((1, 2)).mean() / 8
            + objective.metric_weight * triplet(embedding[count:], unlabelled, objective)
        )

    def __call__(self) -> float:
        self.optimiser.zero_grad()
        loss = self.loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.method.optimiser.clip_norm)
        self.optimiser.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return loss.item()


def choose_device(platform: str) -> str:
    """PyTorch's name for the device that JAX calls `platform`. Raises UserError where PyTorch has no such device."""
    if platform == "cpu":
        return "cpu"
    if platform == "gpu" and torch.cuda.is_available():
        return "cuda"
    raise UserError(
        f"JAX runs on {platform}, and this PyTorch has no such device; install one that has, or set JAX_PLATFORMS=cpu"
    )


def program(
    config: settings.Train,
    batch: Batch,
    statistics: PoseStatistics,
    platform: str = "cpu",
) -> Step:
    """The step on PyTorch's counterpart of JAX's `platform`, with the settings that PyTorch is fast with there."""
    device = choose_device(platform)
    if device == "cuda":
        torch.set_default_device(device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # TF32, JAX's default there
    return Step(config, batch, statistics)


def compiled(step: Step) -> tuple[Step | None, str]:
    """A second step on the same network, compiled by `torch.compile`; or None and the reason why it does not work."""
    other = copy.copy(step)
    other.forward = torch.compile(step.forward)
    try:
        other()
    except Exception as error:  # whatever the compilers behind it say
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return other, ""


def best_threads(step: Callable[[], Any], candidates: Sequence[int], repeats: int = 7) -> int:
    """The number of threads with which a step is fastest (median of rounds in turn), which stays set."""

    def with_threads(count: int) -> Any:
        torch.set_num_threads(count)
        return step()

    timings = in_turn({str(n): functools.partial(with_threads, n) for n in candidates}, repeats)
    best = min(candidates, key=lambda n: timings[str(n)].median_s)
    torch.set_num_threads(best)
    return best
