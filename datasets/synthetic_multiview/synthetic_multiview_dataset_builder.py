"""Synthetic people in several cameras, as a TFDS builder over the shared tuple."""

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float

from datasets.synthetic_multiview import anatomy, motion, people, performance, scene
from datasets.synthetic_multiview.motion_files import SPLITS, Archive
from datasets.synthetic_multiview.render import render
from datasets.tuples import tuple_builder

NUM_CAMERAS = 4
CROP_MARGIN = 0.06
# Geometry is rounded to this grid: identical on processors whose sines differ in the last bit.
GRID_MM = 1 / 64
# Pictures rendered at once, about as many as stay in a core's cache; threads that render (XLA frees the GIL).
PIXELS_PER_CALL = 16 * 64 * 64
THREADS = 2


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """One synthetic set. Subjects are numbered through; a subject is in one split only.

    Attributes:
      size: side of the crops, pixels.
      subjects: subject numbers by split.
      takes: sequences per subject and action.
      instants: records per sequence.
      seconds_per_record: their spacing.
      rooms: what has a room of its own, with its rig, light and clothes: nobody (all share one room, and a subject
        keeps their clothes), a person, or a sequence.
      samples: rays per pixel and side.
      motion: files that people move by instead of the generated actions; they say subjects, takes and instants.
    """

    size: int = 64
    subjects: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    takes: int = 1
    instants: int = 8
    seconds_per_record: float = 0.2
    rooms: scene.Rooms = "shared"
    samples: int = 1
    seed: int = 0
    motion: Archive | None = None


def _config(name: str, description: str, **kwargs: Any) -> Config:
    return Config(name=name, version=tfds.core.Version("1.0.0"), description=description, **kwargs)


def driven_by(archive: Archive, config: str, name: str) -> Config:
    """The configuration called `config`, its people moved by an archive's files, under a `name` of its own."""
    base = Builder.builder_configs[config]
    description = f"As {config}, moved by {len(archive.files)} motion files."
    return dataclasses.replace(base, name=name, description=description, motion=archive)


class Builder(tuple_builder.TupleBuilder):
    """Articulated people, rendered; nothing is downloaded."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        _config(
            "tiny",
            "For tests: two people for training, one each for validation and test, 64 px.",
            subjects={"train": (1, 2), "validation": (6,), "test": (7,)},
            instants=6,
            seconds_per_record=0.5,
        ),
        _config(
            "demo",
            "For launch/demo.sh: 64 px, one room and rig.",
            subjects=people.DEMO,
            takes=3,
            instants=14,
            seconds_per_record=0.3,
        ),
        _config(
            "studio",
            "224 px, one room and rig as in a motion-capture studio; about 205,000 views.",
            size=224,
            subjects=people.STUDIO,
            takes=2,
            instants=400,
            seconds_per_record=0.1,
            samples=1,
        ),
        _config(
            "wild",
            "224 px; rig, room, light and clothes change with every sequence; about 205,000 views.",
            size=224,
            subjects=people.STUDIO,
            takes=8,
            instants=100,
            seconds_per_record=0.1,
            rooms="sequence",
        ),
        _config(
            "sessions",
            "For launch/demo.sh: 64 px; every person in a room of their own, with its rig, light and clothes.",
            subjects=people.SESSIONS,
            takes=3,
            instants=14,
            seconds_per_record=0.3,
            rooms="person",
        ),
        _config(
            "sessions_studio",
            "As sessions, 224 px; about 410,000 views.",
            size=224,
            subjects=people.SESSIONS,
            takes=2,
            instants=320,
            seconds_per_record=0.1,
            rooms="person",
        ),
    ]

    @property
    def views(self) -> int:
        return NUM_CAMERAS

    @property
    def split_names(self) -> tuple[str, ...]:
        archive = self.builder_config.motion
        if archive is None:
            return tuple(self.builder_config.subjects)
        return tuple(split for split in SPLITS if any(file.split == split for file in archive.files))

    @property
    def specification(self) -> dict[str, Any]:
        config = self.builder_config
        common = {name: getattr(config, name) for name in ("size", "seconds_per_record", "samples", "seed")}
        # Sets of before there were rooms for people said only whether they are wild: theirs stay the same sets.
        common |= {"wild": config.rooms == "sequence"}
        if config.rooms == "person":
            common |= {"rooms": config.rooms}
        if config.motion is not None:
            return common | {"motion": config.motion.specification}
        return common | {"takes": config.takes, "instants": config.instants}

    def sequences(self, split: str) -> int:
        return len(self.acts(split))

    def acts(self, split: str) -> list[performance.Act]:
        config = self.builder_config
        if config.motion is not None:
            return performance.captured(config.motion, split, config.seed)
        times = np.arange(config.instants) * config.seconds_per_record
        takes = product(config.subjects[split], range(len(motion.ACTIONS)), range(config.takes))
        return [performance.generated(*take, config.seed, times) for take in takes]

    def _records(self, split: str) -> int:
        config = self.builder_config
        if config.motion is not None:
            return sum(file.instants for file in config.motion.files if file.split == split)
        return self.sequences(split) * config.instants

    def expected_records(self) -> int:
        return sum(map(self._records, self.split_names))

    def expected_bytes(self, split: str) -> int:
        return self._records(split) * self.views * tuple_builder.view_bytes(self.builder_config.size)

    def recordings(self, split: str) -> Iterator[tuple_builder.Recording]:
        config = self.builder_config
        acts = self.acts(split)
        stop = threading.Event()
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="render")
        try:
            # A few sequences ahead keep the threads busy without holding the whole split.
            ahead = [pool.submit(render_sequence, config, act, stop) for act in acts[: 2 * THREADS]]
            for i, act in enumerate(acts):
                instants = ahead.pop(0).result()
                if i + 2 * THREADS < len(acts):
                    ahead.append(pool.submit(render_sequence, config, acts[i + 2 * THREADS], stop))
                yield tuple_builder.Recording(
                    subject=act.subject,
                    action=act.action,
                    subaction=act.subaction,
                    group=act.sequence if config.rooms == "sequence" else act.person,
                    seconds_per_record=config.seconds_per_record,
                    instants=instants,
                )
        finally:  # also when nobody wants the rest: an interrupted program ends at once
            stop.set()
            pool.shutdown(cancel_futures=True)


def _rounded(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.round(values / GRID_MM) * GRID_MM


def render_sequence(
    config: Config, act: performance.Act, stop: threading.Event | None = None
) -> list[tuple_builder.Instant]:
    """All instants of one sequence: geometry in NumPy float64 on a fixed grid, pictures by the renderer.

    Raises CancelledError when `stop` is set meanwhile.
    """
    place = {"shared": 0, "person": act.person, "sequence": act.sequence}[config.rooms]

    def exact(draws: jax.Array) -> Float[np.ndarray, "..."]:
        return np.asarray(draws, np.float64)

    person = anatomy.person(exact(anatomy.person_draws(config.seed, act.person, place)), np)
    room = scene.room(exact(scene.room_draws(config.seed, place)), np)
    rig = scene.rig(exact(scene.rig_draws(config.seed, place, NUM_CAMERAS)), np)
    played = act.perform(person)
    body = anatomy.Body(*(_rounded(field) for field in played.body))
    points, radii = anatomy.outline(anatomy.flesh(body, person, np), np)

    cameras = [scene.Camera(*(field[v] for field in rig)) for v in range(NUM_CAMERAS)]
    boxes = np.stack([scene.crop_box(points, radii, c, CROP_MARGIN, np) for c in cameras], axis=1)
    poses = np.stack([_rounded(scene.to_camera(body.joints, c)) for c in cameras], axis=1)
    extrinsics = np.concatenate([rig.rotation, rig.translation[:, :, None]], axis=-1)
    images = _render(config, body, person, room, rig, boxes, stop)
    return [
        tuple_builder.Instant(
            images=images[i],
            view_valid=np.ones(NUM_CAMERAS, bool),
            camera=[f"camera{v}" for v in range(NUM_CAMERAS)],
            pose=poses[i].astype(np.float32),
            intrinsics=rig.intrinsics,
            extrinsics=extrinsics,
            distortion=np.zeros((NUM_CAMERAS, 5)),
            box=boxes[i].astype(np.float32),
            box_source="mask",
            frame=int(frame),
            time=float(i * config.seconds_per_record),
        )
        for i, frame in enumerate(played.frames)
    ]


@partial(jax.jit, static_argnames=("size", "samples"))
def _pictures(
    body: anatomy.Body,
    person: anatomy.Person,
    room: scene.Room,
    camera: scene.Camera,
    size: int,
    samples: int,
) -> jax.Array:
    """Pictures [i, v, size, size, 3] of i poses in v cameras; the intrinsics [i, v, 3, 3] are the crops'."""

    def picture(
        body: anatomy.Body, rotation: jax.Array, translation: jax.Array, crop: jax.Array
    ) -> jax.Array:
        return render(body, person, room, scene.Camera(rotation, translation, crop), size, samples)[0]

    per_view = jax.vmap(picture, in_axes=(None, 0, 0, 0))
    return jax.vmap(per_view, in_axes=(0, None, None, 0))(
        body, camera.rotation, camera.translation, camera.intrinsics
    )


def _render(
    config: Config,
    body: anatomy.Body,
    person: anatomy.Person,
    room: scene.Room,
    rig: scene.Camera,
    boxes: Float[np.ndarray, "i v 4"],
    stop: threading.Event | None = None,
) -> list[list[bytes]]:
    """JPEG files, those of all views instant by instant."""
    instants = boxes.shape[0]
    crops = scene.crop_intrinsics(rig.intrinsics[None], boxes, config.size, np)
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (person, room))
    step = max(1, PIXELS_PER_CALL // (config.size**2 * NUM_CAMERAS))
    out: list[list[bytes]] = []
    for first in range(0, instants, step):
        if stop is not None and stop.is_set():
            raise CancelledError
        # The last chunk is shifted back instead of shortened: one compiled shape.
        low = max(0, min(first, instants - step))
        window = slice(low, low + step)
        chunk = jax.tree.map(lambda x, w=window: jnp.asarray(x[w], jnp.float32), body)
        camera = scene.Camera(
            jnp.asarray(rig.rotation, jnp.float32),
            jnp.asarray(rig.translation, jnp.float32),
            jnp.asarray(crops[window], jnp.float32),
        )
        pictures = np.asarray(_pictures(chunk, *single, camera, config.size, config.samples))
        out += [
            [tuple_builder.encode_jpeg(picture) for picture in views] for views in pictures[first - low :]
        ]
    return out
