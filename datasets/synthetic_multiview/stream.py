"""An endless stream of multi-view tuples, made and rendered on the accelerator; no TFDS, no disk."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from datasets.synthetic_multiview import anatomy, motion, scene
from datasets.synthetic_multiview.render import render
from mcss_jax.errors import UserError


class StreamConfig(NamedTuple):
    """What a stream yields: `groups` blocks of `sequences` x `instants` instants of `views` pictures each."""

    subjects: tuple[int, ...]  # integer identities; keep those of evaluation out
    groups: int = 4
    sequences: int = 2
    instants: int = 8
    views: int = 2
    size: int = 64
    cameras: int = 4  # of the rig, from which `views` different ones are drawn at every instant
    gap: float = 0.5  # seconds between successive instants of a sequence
    rooms: scene.Rooms = (
        "shared"  # what has a room, rig, light and clothes of its own; here "sequence" is a group
    )
    margin: float = 0.08  # of the crop's side, around the silhouette
    samples: int = 1  # rays per pixel and side
    chunk: int = 16  # pictures rendered at once: as many as stay in a processor's cache


class StreamBatch(NamedTuple):
    """One batch of B = groups x sequences x instants instants, V views each; instants of a sequence lie
    together."""

    images: UInt8[Array, "b v s s 3"]
    pose: Float[Array, "b v 17 3"]  # mm, in each camera's frame
    intrinsics: Float[Array, "b v 3 3"]  # of the original frame, pixels
    crop_intrinsics: Float[Array, "b v 3 3"]
    rotation: Float[Array, "b v 3 3"]  # world to camera
    translation: Float[Array, "b v 3"]  # mm
    box: Float[Array, "b v 4"]  # in the original frame
    camera: Int[Array, "b v"]
    subject: Int[Array, " b"]
    action: Int[Array, " b"]
    group: Int[Array, " b"]
    sequence: Int[Array, " b"]
    time: Float[Array, " b"]  # seconds


class Moments(NamedTuple):
    """Which instants to make: who does what, when, and which cameras look; `group` numbers the rooms of sequences."""

    subject: Int[Array, " b"]
    action: Int[Array, " b"]
    group: Int[Array, " b"]
    sequence: Int[Array, " b"]
    time: Float[Array, " b"]  # seconds
    views: Int[Array, "b v"]


def _draw(config: StreamConfig, seed: int | Array, group: Array, sequence: Array, index: Array) -> Moments:
    """Instant `index` of a sequence of the endless stream."""
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 17)
    of_group, of_sequence = jax.random.fold_in(key, 2 * group), jax.random.fold_in(key, 2 * sequence + 1)
    who = jax.random.randint(of_group, (), 0, len(config.subjects))
    action = jax.random.randint(jax.random.fold_in(of_sequence, 0), (), 0, len(motion.ACTIONS))
    start = 20.0 * jax.random.uniform(jax.random.fold_in(of_sequence, 1), ())
    order = jax.random.permutation(jax.random.fold_in(of_sequence, 2 + index), config.cameras)
    return Moments(
        subject=jnp.asarray(config.subjects)[who],
        action=action,
        group=group,
        sequence=sequence,
        time=start + index * config.gap,
        views=order[: config.views],
    )


def _instant(
    config: StreamConfig, seed: int | Array, moment: Moments
) -> tuple[anatomy.Body, anatomy.Person, scene.Room, scene.Camera, StreamBatch]:
    """Everything about one instant but its pictures; the camera's leading axis is the views."""
    place = {
        "shared": jnp.zeros_like(moment.group),
        "person": moment.subject,
        "sequence": moment.group,
    }[config.rooms]
    person = anatomy.person(anatomy.person_draws(seed, moment.subject, place), jnp)
    room = scene.room(scene.room_draws(seed, place), jnp)
    rig = scene.rig(scene.rig_draws(seed, place, config.cameras), jnp)
    draws = motion.motion_draws(seed, moment.sequence)
    body = motion.pose(moment.action, draws, moment.time, person, jnp)

    camera = scene.Camera(*(field[moment.views] for field in rig))
    points, radii = anatomy.outline(anatomy.flesh(body, person, jnp), jnp)
    boxes = jax.vmap(lambda c: scene.crop_box(points, radii, c, config.margin, jnp))(camera)
    crops = jax.vmap(lambda k, box: scene.crop_intrinsics(k, box, config.size, jnp))(camera.intrinsics, boxes)
    pose = jax.vmap(lambda c: scene.to_camera(body.joints, c))(camera)
    batch = StreamBatch(
        images=jnp.zeros((), jnp.uint8), pose=pose, intrinsics=camera.intrinsics, crop_intrinsics=crops,
        rotation=camera.rotation, translation=camera.translation, box=boxes, camera=moment.views,
        subject=moment.subject, action=moment.action, group=moment.group, sequence=moment.sequence,
        time=moment.time,
    )  # fmt: skip
    return body, person, room, camera._replace(intrinsics=crops), batch


@partial(jax.jit, static_argnames="config")
def poses_at(seed: int | Array, moments: Moments, config: StreamConfig) -> Float[Array, "b v 17 3"]:
    """Poses in each camera's frame, millimetres, of given instants; nothing is rendered."""
    return jax.vmap(partial(_instant, config, seed))(moments)[-1].pose


@partial(jax.jit, static_argnames="config")
def pictures_at(seed: int | Array, moments: Moments, config: StreamConfig) -> StreamBatch:
    """Given instants, rendered. Of `config`, what describes a batch of the endless stream plays no part."""
    body, person, room, camera, batch = jax.vmap(partial(_instant, config, seed))(moments)

    def views_of(instant: tuple) -> Array:
        body, person, room, camera = instant
        return jax.vmap(lambda c: render(body, person, room, c, config.size, config.samples)[0])(camera)

    count, views = moments.views.shape  # a chunk divides the count: the rest would be compiled a second time
    per_chunk = max(
        n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * views <= config.chunk)
    )
    images = jax.lax.map(views_of, (body, person, room, camera), batch_size=per_chunk)
    return batch._replace(images=images)


@partial(jax.jit, static_argnames=("config", "host", "hosts"))
def stream_batch(
    seed: int | Array, step: int | Array, config: StreamConfig, host: int = 0, hosts: int = 1
) -> StreamBatch:
    """The batch of one step, a pure function of (seed, step, config), or one host's equal stretch of it."""
    whole = moments_of(seed, step, config)
    rows = slice(host * len(whole.group) // hosts, (host + 1) * len(whole.group) // hosts)
    return pictures_at(seed, Moments(*(field[rows] for field in whole)), config)


@partial(jax.jit, static_argnames="config")
def moments_of(seed: int | Array, step: int | Array, config: StreamConfig) -> Moments:
    """What the batch of a step shows; nothing is rendered.

    Groups and sequences are numbered through, over all steps, so that none ever comes again.
    """
    groups = jnp.asarray(step, jnp.int32) * config.groups + jnp.arange(config.groups, dtype=jnp.int32)
    local = jnp.arange(config.sequences, dtype=jnp.int32)
    sequences = groups[:, None] * config.sequences + local[None, :]
    shape = (config.groups, config.sequences, config.instants)
    group = jnp.broadcast_to(groups[:, None, None], shape).reshape(-1)
    sequence = jnp.broadcast_to(sequences[:, :, None], shape).reshape(-1)
    index = jnp.broadcast_to(jnp.arange(config.instants, dtype=jnp.int32)[None, None, :], shape).reshape(-1)
    return jax.vmap(partial(_draw, config, seed))(group, sequence, index)


def stream(seed: int, config: StreamConfig, first_step: int = 0) -> Iterator[StreamBatch]:
    """Batches without end, from `first_step` on."""
    check(config)
    step = first_step
    while True:
        yield stream_batch(seed, step, config)
        step += 1


def check(config: StreamConfig) -> None:
    """Raises UserError when a stream of `config` cannot be made."""
    if not config.subjects:
        raise UserError("StreamConfig.subjects is empty; name at least one subject.")
    if not 1 <= config.views <= config.cameras:
        raise UserError(
            f"StreamConfig.views is {config.views}; expected 1 to {config.cameras} (its cameras)."
        )
