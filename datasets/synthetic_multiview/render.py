"""The renderer: one pure JAX function from a body, a person, a room and a camera to a picture.

Every part of the flesh is a rounded cone (two spheres and the hull between them), possibly flattened along
one direction. A flattened cone is a round one under the inner product <u, v> = u.v + (flatness^2 -
1)(f.u)(f.v), so one formula serves all parts, and since all rays of a picture start at the eye, most of it
is done once per part. All lengths are millimetres in the camera's frame; a ray is (x, y, 1), so that its
parameter is the depth.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from datasets.synthetic_multiview.anatomy import PARTS, Body, Flesh, Person, flesh
from datasets.synthetic_multiview.scene import ROOM_HALF, Camera, Room

BACKGROUND = -1
_FAR = 1e9
_HEAD = PARTS.index("head")

MATERIALS = ("skin", "hair", "eye", "lips", "shirt", "trousers", "shoe", "seat", "floor", "wall")
_SKIN = MATERIALS.index("skin")
_DRESSED = {
    "pelvis": "trousers", "belly": "trousers", "chest": "shirt", "shoulders": "shirt", "upper_arm": "shirt",
    "forearm": "shirt", "thigh": "trousers", "shin": "trousers", "foot": "shoe", "seat": "seat",
}  # fmt: skip


def _kind(part: str) -> str:
    return part.removeprefix("left_").removeprefix("right_")


# What covers each part up to the place where its clothes end, and what beyond: skin, but on the belly the
# shirt.
_CLOTHING = np.array([MATERIALS.index(_DRESSED.get(_kind(part), "skin")) for part in PARTS])
_BEYOND = np.array([MATERIALS.index("shirt" if part == "belly" else "skin") for part in PARTS])

# Parts too small, or too well covered by their neighbours, for their shadow to be told apart.
_SHADOWLESS = ("nose", "left_thumb", "right_thumb", "neck")
SHADOWED = np.array([i for i, part in enumerate(PARTS) if part not in _SHADOWLESS])


class Solids(NamedTuple):
    """Rounded cones in the camera's frame, ready to meet rays from the eye; leading axis: parts."""

    start: Float[Array, "p 3"]
    axis: Float[Array, "p 3"]
    flat: Float[Array, "p 3"]
    squash: Float[Array, " p"]  # flatness^2 - 1
    metric_axis: Float[Array, "p 3"]  # the axis and the start lowered by the inner product
    metric_start: Float[Array, "p 3"]
    m0: Float[Array, " p"]  # <axis, axis>
    m1: Float[Array, " p"]  # -<axis, start>
    d2: Float[Array, " p"]
    k0: Float[Array, " p"]
    shift: Float[Array, " p"]  # taper x start radius
    cap_start: Float[Array, " p"]  # power of the eye with respect to the two spheres
    cap_end: Float[Array, " p"]


class Rows(NamedTuple):
    """One vector per ray, held by components: XLA fuses these, but not reductions over a short axis."""

    x: Array
    y: Array
    z: Array


def _inner(a: Rows, b: Rows) -> Array:
    return a.x * b.x + a.y * b.y + a.z * b.z


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(-1)


def _turn(vectors: Float[Array, "... 3"], rotation: Float[Array, "3 3"]) -> Float[Array, "... 3"]:
    """rotation @ vector, written out: matrix units may round to fewer bits."""
    x, y, z = vectors[..., 0:1], vectors[..., 1:2], vectors[..., 2:3]
    shape = (1,) * (vectors.ndim - 1) + (3,)
    columns = [rotation[:, i].reshape(shape) for i in range(3)]
    return x * columns[0] + y * columns[1] + z * columns[2]


def _solids(parts: Flesh, camera: Camera) -> Solids:
    start = _turn(parts.start, camera.rotation) + camera.translation[None, :]
    axis = _turn(parts.end - parts.start, camera.rotation)
    flat = _turn(parts.flat, camera.rotation)
    squash = parts.flatness**2 - 1

    def lower(vectors: Array) -> Array:
        return vectors + (squash * _dot(flat, vectors))[:, None] * flat

    metric_axis, metric_start = lower(axis), lower(start)
    taper = parts.start_radius - parts.end_radius
    m0, m1, m5 = _dot(axis, metric_axis), -_dot(start, metric_axis), _dot(start, metric_start)
    d2 = jnp.maximum(m0 - taper**2, 1.0)
    shift = taper * parts.start_radius
    k0 = d2 * m5 - m1**2 + 2 * m1 * shift - m0 * parts.start_radius**2
    cap_start = m5 - parts.start_radius**2
    cap_end = m5 - 2 * m1 + m0 - parts.end_radius**2
    return Solids(
        start, axis, flat, squash, metric_axis, metric_start, m0, m1, d2, k0, shift, cap_start, cap_end
    )  # fmt: skip


def _meet(solid: Solids, x: Array, y: Array, length2: Array) -> tuple[Array, Array]:
    """Depth of the first meeting of rays (x, y, 1) with one solid (`_FAR`: none), and how far along its
    axis (0..1)."""
    across = solid.flat[0] * x + solid.flat[1] * y + solid.flat[2]
    q = length2 + solid.squash * across * across
    m2 = solid.metric_axis[0] * x + solid.metric_axis[1] * y + solid.metric_axis[2]
    m3 = -(solid.metric_start[0] * x + solid.metric_start[1] * y + solid.metric_start[2])
    k2 = jnp.maximum(solid.d2 * q - m2 * m2, 1e-3)
    k1 = solid.d2 * m3 + m2 * (solid.shift - solid.m1)
    h = k1 * k1 - solid.k0 * k2
    t = (-k1 - jnp.sqrt(jnp.maximum(h, 0.0))) / k2
    along = (solid.m1 - solid.shift + t * m2) / solid.d2
    share = jnp.clip(along, 0.0, 1.0)
    m = m3 - share * m2
    h_cap = m * m - q * jnp.where(along < 0.5, solid.cap_start, solid.cap_end)
    t_cap = (-m - jnp.sqrt(jnp.maximum(h_cap, 0.0))) / q
    on_side = along == share
    hit = (h > 0) & (on_side | (h_cap > 0))
    return jnp.where(hit, jnp.where(on_side, t, t_cap), _FAR), share


def nearest_solid(solids: Solids, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Depth, position along the axis and part index of the nearest solid on each ray."""
    length2 = x * x + y * y + 1

    def closer(
        carry: tuple[Array, Array, Array], item: tuple[Array, Solids]
    ) -> tuple[tuple[Array, Array, Array], None]:
        depth, share, part = carry
        index, solid = item
        new_depth, new_share = _meet(solid, x, y, length2)
        nearer = new_depth < depth
        return (
            jnp.where(nearer, new_depth, depth),
            jnp.where(nearer, new_share, share),
            jnp.where(nearer, index, part),
        ), None

    nothing = (jnp.full_like(x, _FAR), jnp.zeros_like(x), jnp.full(x.shape, BACKGROUND, jnp.int32))
    indices = jnp.arange(len(PARTS), dtype=jnp.int32)
    return jax.lax.scan(closer, nothing, (indices, solids))[0]


def _triangle(turns: Array) -> Array:
    """A triangle wave in [-1, 1] of period 1 (a sine costs ten times as much on a CPU, per pixel)."""
    return jnp.abs(4 * (turns - jnp.floor(turns)) - 2) - 1


def _wave(turns: Array, sharpness: float = 3.0) -> Array:
    """A square wave in [0, 1] of period 1 with soft edges."""
    return jnp.clip(0.5 + sharpness * _triangle(turns), 0.0, 1.0)


class Prepared(NamedTuple):
    """All that the rays of one picture share."""

    parts: Flesh
    solids: Solids
    surface: Float[
        Array, "rows p"
    ]  # the numbers of each part that only the rays that see it need, see `_cover`
    palette: Float[Array, "6 materials"]  # first and second colour of each material


class Cover(NamedTuple):
    """What each ray sees: colour = mix(first, second, weight) * light + glow, the two colours being the
    material's."""

    material: Int[Array, " n"]
    weight: Float[Array, " n"]
    light: Float[Array, " n"]
    glow: Float[Array, " n"]


def prepare(body: Body, person: Person, room: Room, camera: Camera) -> Prepared:
    parts = flesh(body, person, jnp)
    solids = _solids(parts, camera)
    length = jnp.sqrt(_dot(solids.axis, solids.axis))
    unit = solids.axis / jnp.maximum(length, 1e-3)[:, None]
    ahead = solids.flat - _dot(solids.flat, unit)[:, None] * unit
    ahead = ahead / jnp.sqrt(_dot(ahead, ahead) + 1e-6)[:, None]
    aside = jnp.cross(unit, ahead)
    # Where along each part its clothes end: sleeves run over two parts, and so do trouser legs.
    ends = {
        "upper_arm": 2 * person.sleeve,
        "forearm": 2 * person.sleeve - 1,
        "shin": 2 * person.leg - 1,
        "belly": 0.3,
    }
    switch = jnp.stack([jnp.asarray(ends.get(_kind(part), 2.0), jnp.float32) for part in PARTS])
    vectors = jnp.concatenate([solids.start, solids.axis, solids.flat, ahead, aside], axis=1)
    materials = [jnp.asarray(m, jnp.float32) for m in (_CLOTHING, _BEYOND)]
    scalars = jnp.stack([solids.squash, length, switch, *materials], axis=1)
    dark = jnp.full((3,), 0.1)
    plain = {"skin": person.skin, "hair": person.hair, "eye": dark, "shoe": person.shoes}
    pairs = {name: (colour, colour) for name, colour in plain.items()} | {
        "lips": (person.skin * jnp.array([0.8, 0.45, 0.45]), dark),
        "shirt": (person.top, person.top_second),
        "trousers": (person.bottom, person.bottom_second),
        "seat": (0.5 * person.bottom[::-1] + 0.2, person.bottom),
        "floor": (room.floor, room.floor_second),
        "wall": (room.wall, room.wall_second),
    }
    palette = jnp.stack([jnp.concatenate(pairs[name]) for name in MATERIALS], axis=1)
    return Prepared(parts, solids, jnp.concatenate([vectors, scalars], axis=1).T, palette)


def _pattern(person: Person, length: Array, turns: Array) -> Array:
    """Weight in [0, 1] of the second colour, from the place on the part: millimetres along it, turns around
    it."""
    rings = _wave(length / person.wavelength)
    stripes = _wave(6 * turns)
    dots = jnp.clip(4 * _triangle(length / person.wavelength) * _triangle(5 * turns) - 1, 0.0, 1.0)
    checks = jnp.abs(rings - stripes)
    kinds = enumerate((rings, stripes, checks, dots), start=1)
    return sum((jnp.where(person.pattern == i, kind, 0.0) for i, kind in kinds), jnp.zeros_like(rings))


def _face(person: Person, ahead: Array, left: Array, up: Array) -> Int[Array, " n"]:
    """The material at points of the head, given from its middle in units of the skull along the head's
    axes."""
    line = 0.1 * person.hair_line
    hair = (jnp.maximum(up - 0.36 + line, 0.12 + line - ahead - 0.35 * up) > 0) & (up > -0.62)
    eyes = (ahead > 0) & ((jnp.abs(left) - 0.27) ** 2 + (up + 0.02) ** 2 < 0.012)
    mouth = (ahead > 0) & (0.3 * left**2 + (up + 0.62) ** 2 < 0.005)
    face = jnp.where(mouth, MATERIALS.index("lips"), _SKIN)
    return jnp.where(hair, MATERIALS.index("hair"), jnp.where(eyes, MATERIALS.index("eye"), face))


def _cover(
    scene: Prepared, body: Body, person: Person, room: Room, camera: Camera, x: Array, y: Array,
    depth: Array, share: Array, part: Array,
) -> Cover:  # fmt: skip
    """Material, pattern and light where rays (x, y, 1) meet the person."""
    rows = jnp.take(scene.surface, part, axis=1, mode="clip")
    start, axis, flat, ahead, aside = (Rows(*rows[3 * i : 3 * i + 3]) for i in range(5))
    squash, length, switch, clothing, beyond = rows[15:]
    point = Rows(x * depth, y * depth, depth)
    out = Rows(*(p - s - share * a for p, s, a in zip(point, start, axis, strict=True)))
    lift = squash * _inner(flat, out)
    normal = Rows(*(o + lift * f for o, f in zip(out, flat, strict=True)))
    scale = jax.lax.rsqrt(_inner(normal, normal) + 1e-6)
    normal = Rows(*(n * scale for n in normal))

    front, side = _inner(normal, ahead), _inner(normal, aside)
    quarter = side / (jnp.abs(front) + jnp.abs(side) + 1e-6)  # an angle without the arc tangent
    weight = _pattern(person, share * length, 0.25 * jnp.where(front < 0, 2 - quarter, quarter))

    centre = scene.solids.start[_HEAD] + scene.solids.axis[_HEAD]
    from_centre = Rows(*((p - centre[i]) / person.skull for i, p in enumerate(point)))
    head_axes = _turn(body.head_axes.T, camera.rotation)  # rows forward, left, up
    face = _face(person, *(_inner(from_centre, Rows(*head_axes[i])) for i in range(3)))
    material = jnp.where(share < switch, clothing, beyond).astype(jnp.int32)
    material = jnp.where(part == _HEAD, face, material)

    towards_light, up = Rows(*_turn(room.light, camera.rotation)), Rows(*camera.rotation[:, 2])
    direct = jnp.maximum(_inner(normal, towards_light), 0.0)
    sky = 0.8 + 0.2 * _inner(normal, up)
    facing = -(normal.x * x + normal.y * y + normal.z) * jax.lax.rsqrt(x * x + y * y + 1)
    rim = 0.10 * (1 - jnp.clip(facing, 0.0, 1.0)) ** 3
    return Cover(material, weight, room.ambient * 1.15 * sky + (1 - room.ambient) * 1.1 * direct, rim)


def _background(parts: Flesh, room: Room, camera: Camera, x: Array, y: Array) -> tuple[Cover, Array]:
    """Floor and walls, and their depth; the floor carries the person's shadow."""
    eye = -_turn(camera.translation, camera.rotation.T)
    turn = camera.rotation
    ray = [turn[0, i] * x + turn[1, i] * y + turn[2, i] for i in range(3)]
    safe = [jnp.where(jnp.abs(r) < 1e-6, 1e-6, r) for r in ray]
    floor_depth = jnp.where(ray[2] < -1e-6, -eye[2] / safe[2], _FAR)
    wall_x = (jnp.sign(safe[0]) * ROOM_HALF - eye[0]) / safe[0]
    wall_y = (jnp.sign(safe[1]) * ROOM_HALF - eye[1]) / safe[1]
    wall_depth = jnp.minimum(wall_x, wall_y)
    on_floor = floor_depth < wall_depth
    depth = jnp.where(on_floor, floor_depth, wall_depth)
    px, py, pz = (eye[i] + depth * ray[i] for i in range(3))

    tiles_x, tiles_y = _wave(px / room.floor_wavelength, 6.0), _wave(py / room.floor_wavelength, 6.0)
    tiles = jnp.abs(tiles_x - room.checks * tiles_y)
    grain = 1 + 0.05 * _triangle(px / 480.0 + 0.3 * _triangle(py / 1600.0)) * _triangle(py / 300.0)
    floor_light = grain * (room.ambient + (1 - room.ambient) * (1 - shadow(parts, room, px, py)))
    along = jnp.where(wall_x < wall_y, py, px)
    panels = _wave(along / room.wall_wavelength) * _wave(pz / 3000.0 + 0.35)
    corner = jnp.where(wall_x < wall_y, 1.0, 0.88)  # tells the two walls apart
    skirting = jnp.where(pz < 110.0, 0.55, 1.0)
    wall_light = corner * skirting * (room.ambient + (1 - room.ambient) * 0.6)
    material = jnp.where(on_floor, MATERIALS.index("floor"), MATERIALS.index("wall"))
    cover = Cover(
        material,
        jnp.where(on_floor, tiles, panels),
        jnp.where(on_floor, floor_light, wall_light),
        jnp.zeros_like(depth),
    )
    return cover, depth


def shadow(parts: Flesh, room: Room, px: Array, py: Array) -> Array:
    """How much of the light the person keeps from points of the floor, 0..1.

    Seen along the light, a part's shadow is a thick segment: the part's own radius around its axis, both
    projected to the plane across the light.
    """
    light = room.light
    flat = jnp.sqrt(light[0] ** 2 + light[1] ** 2 + 1e-12)
    c, s = light[0] / flat, light[1] / flat
    u, v = (px * c + py * s) * light[2], py * c - px * s

    def project(p: Array) -> tuple[Array, Array]:
        return (p[:, 0] * c + p[:, 1] * s) * light[2] - p[:, 2] * flat, p[:, 1] * c - p[:, 0] * s

    start, end = project(parts.start[SHADOWED]), project(parts.end[SHADOWED])
    axis = end[0] - start[0], end[1] - start[1]
    length2 = jnp.maximum(axis[0] ** 2 + axis[1] ** 2, 1.0)
    radius = parts.start_radius[SHADOWED]
    taper = parts.end_radius[SHADOWED] - radius

    def darker(dark: Array, item: tuple[Array, ...]) -> tuple[Array, None]:
        u0, v0, du, dv, l2, r, dr = item
        share = jnp.clip(((u - u0) * du + (v - v0) * dv) / l2, 0.0, 1.0)
        r = r + share * dr
        away2 = (u - u0 - share * du) ** 2 + (v - v0 - share * dv) ** 2
        return jnp.maximum(dark, jnp.minimum(1.0, (r * r - away2) / (30.0 * r + 1.0) + 0.3)), None

    items = (*start, *axis, length2, radius, taper)
    return jnp.clip(jax.lax.scan(darker, jnp.zeros_like(px), items)[0], 0.0, 1.0)


def _paint(
    scene: Prepared, body: Body, person: Person, room: Room, camera: Camera, x: Array, y: Array
) -> tuple[Float[Array, "3 n"], Int[Array, " n"]]:
    """Colour in [0, 1] and part index (`BACKGROUND` beside the person) on rays (x, y, 1)."""
    backdrop, far = _background(scene.parts, room, camera, x, y)
    depth, share, part = nearest_solid(scene.solids, x, y)
    person_cover = _cover(scene, body, person, room, camera, x, y, depth, share, part)
    is_person = depth < far
    cover = jax.tree.map(lambda ours, theirs: jnp.where(is_person, ours, theirs), person_cover, backdrop)
    # Without the barrier, XLA works out the light anew for every colour channel.
    material, weight, light, glow = jax.lax.optimization_barrier(cover)
    pair = jnp.take(scene.palette, material, axis=1, mode="clip")
    colour = pair[:3] + (pair[3:] - pair[:3]) * weight[None, :]
    colour = (colour * light[None, :] + glow[None, :]) * room.brightness
    return jnp.clip(colour, 0.0, 1.0), jnp.where(is_person, part, BACKGROUND)


def _band_rows(size: int, samples: int, tile: int) -> int:
    """The largest divisor of `size` whose rows hold at most `tile` rays (at least one row)."""
    return max(
        rows
        for rows in range(1, size + 1)
        if size % rows == 0 and (rows == 1 or rows * size * samples**2 <= tile)
    )


def render(
    body: Body, person: Person, room: Room, camera: Camera, size: int, samples: int = 1, tile: int = 4096
) -> tuple[UInt8[Array, "{size} {size} 3"], Int[Array, "{size} {size}"]]:
    """Renders one picture; `jax.vmap` renders many.

    Args:
      body: one pose, world frame, millimetres.
      person: whose body it is.
      room: the backdrop and the light.
      camera: extrinsics and the *crop's* intrinsics (`scene.crop_intrinsics`).
      size: side of the picture in pixels.
      samples: rays per pixel and side; their mean is the pixel (anti-aliasing).
      tile: rays followed at once, so that their state stays in a processor's cache; no influence on the
      picture.

    Returns:
      The picture, and the part (index into `PARTS`, or `BACKGROUND`) at (about) the middle of each pixel.
    """
    scene = prepare(body, person, room, camera)
    k, rows = camera.intrinsics, _band_rows(size, samples, tile)
    steps = (jnp.arange(size * samples, dtype=jnp.float32) + 0.5) / samples
    across, down = (steps - k[0, 2]) / k[0, 0], (steps - k[1, 2]) / k[1, 1]

    def band(y: Float[Array, " rows"]) -> tuple[Array, Array]:
        shape = (rows * samples, size * samples)
        x = jnp.broadcast_to(across[None, :], shape).reshape(-1)
        colour, part = _paint(
            scene, body, person, room, camera, x, jnp.broadcast_to(y[:, None], shape).reshape(-1)
        )
        colour = colour.reshape(3, rows, samples, size, samples).mean((2, 4))
        middle = samples // 2
        return (
            jnp.round(255 * jnp.moveaxis(colour, 0, -1)).astype(jnp.uint8),
            part.reshape(rows, samples, size, samples)[:, middle, :, middle],
        )

    image, part = jax.lax.map(band, down.reshape(size // rows, rows * samples))
    return image.reshape(size, size, 3), part.reshape(size, size)
