"""Pictures to look at before training: chosen boxes in whole frames, or crops out of a prepared set."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from datasets.footage import overlay
from datasets.tuples import pipeline, tuple_builder
from mcss_jax.errors import UserError

PAPER, INK, FAINT = (250, 250, 248), (30, 32, 36), (120, 124, 130)
BOX, SHADE = (255, 176, 32), (20, 22, 26)
GAP, HEAD, LEFT = 10, 46, 12

Picture = UInt8[np.ndarray, "h w 3"]


def contact_sheet(
    cameras: Sequence[str],
    times: Float[np.ndarray, " t"],
    picture: Callable[[int, int], Picture | None],
    boxes: Float[np.ndarray, "v t 4"],
    title: str = "",
    notes: Sequence[str] | None = None,
    tile: int = 220,
) -> Image.Image:
    """Draw cameras (rows) against instants (columns); `picture(view, instant)` is a whole frame, None for no
    view.

    Args:
        boxes: x0, y0, x1, y1 in pixels of those frames; NaN draws none.
        notes: one line per camera, under its name (where the boxes came from).
        tile: height of a picture, pixels.
    """
    rows = [[_tile(picture(v, t), boxes[v, t], tile) for t in range(len(times))] for v in range(len(cameras))]
    labels = list(zip(cameras, notes or [""] * len(cameras), strict=True))
    return _grid(rows, labels, [f"{time:.2f} s" for time in times], title, tile)


def records_sheet(splits: Sequence[pipeline.Split], rows: int = 12, tile: int = 128) -> Image.Image:
    """Draw some records of a prepared set: each row one instant in all its views.

    Where poses and cameras are known the skeleton is drawn over the person (`overlay`).

    Args:
        splits: of one set; people and actions are chosen as evenly as `rows` allows.
        rows: most records drawn.
        tile: height of a picture, pixels.

    Raises:
        UserError: a stored picture that cannot be decoded.
    """
    pictures, labels, names, drawn = [], [], [], False
    for split, sequence, index in spread_records(splits, rows):
        record, row = split[index], split.table[sequence]
        joints = [overlay.crop_joints(record, view, tile) for view in range(split.views)]
        drawn |= any(of_view is not None for of_view in joints)
        pictures.append([_crop(record, view, joints[view], tile) for view in range(split.views)])
        part = split.name.rpartition(":")[2]
        labels.append((f"{row.subject}  {row.action} {row.subaction}", f"{part}, {record['time']:.2f} s"))
        names.append([camera.decode() for camera in record["camera"]])
    # Sessions may have cameras of their own: then a column is just a number.
    heads = [
        names_of_view.pop() if len(names_of_view := set(filter(None, column))) == 1 else f"view {v + 1}"
        for v, column in enumerate(zip(*names, strict=True))
    ]
    title = splits[0].name.rpartition(":")[0] + (f" ({overlay.LEGEND})" if drawn else "")
    return _grid(pictures, labels, heads, title, tile)


def save(sheet: Image.Image, path: str | Path) -> Path:
    """Write a sheet as PNG or JPEG, by the ending of its name.

    Raises:
        UserError: another ending.
    """
    path = Path(path)
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if path.suffix.lower() not in kinds:
        raise UserError(f"{path}: a contact sheet is written as {', '.join(kinds)}; found {path.suffix!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Pillow does not say why a file cannot be written.
    content = io.BytesIO()
    sheet.save(content, kinds[path.suffix.lower()], quality=90)
    path.write_bytes(content.getvalue())
    return path


def spread_records(splits: Sequence[pipeline.Split], count: int) -> list[tuple[pipeline.Split, int, int]]:
    """(split, sequence, record) of `count` records at most, in stored order.

    Sequences are taken one by one, the next always of the people and actions seen least so far; when there
    are too few sequences, several instants of each, evenly spaced.
    """
    remaining = [(split, sequence) for split in splits for sequence in range(len(split.table))]
    order = {(id(split), sequence): place for place, (split, sequence) in enumerate(remaining)}
    uses: dict[tuple[str, str], int] = {}
    chosen: list[tuple[pipeline.Split, int]] = []

    def keys(split: pipeline.Split, sequence: int) -> tuple[tuple[str, str], ...]:
        row = split.table[sequence]
        return ("subject", row.subject), ("action", row.action)

    while remaining and len(chosen) < count:
        best = min(remaining, key=lambda at: sum(uses.get(key, 0) for key in keys(*at)))
        remaining.remove(best)
        chosen.append(best)
        for key in keys(*best):
            uses[key] = uses.get(key, 0) + 1
    chosen.sort(key=lambda at: order[id(at[0]), at[1]])
    each = max(1, count // max(1, len(chosen)))
    records = []
    for split, sequence in chosen:
        row = split.table[sequence]
        for offset in sorted({int((j + 0.5) / each * row.length) for j in range(each)}):
            records.append((split, sequence, row.first + offset))
    return records


def _grid(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[tuple[str, str]],
    heads: Sequence[str],
    title: str,
    tile: int,
) -> Image.Image:
    """Tiles of one height: a label and a note at the left of each row, a head over each column."""
    # One column width for the sheet, so that columns stand one above the other.
    wide = max(part.width for row in rows for part in row)
    bold, plain, large = _font(15), _font(12), _font(18)
    margin = LEFT + GAP + int(max(max(bold.getlength(a), plain.getlength(b)) for a, b in labels))
    sheet = Image.new(
        "RGB",
        (margin + len(heads) * (wide + GAP) + GAP, 2 * HEAD + len(rows) * (tile + GAP)),
        PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((LEFT, HEAD / 2 + 4), title, INK, large, anchor="lm")
    for column, head in enumerate(heads):
        x = margin + column * (wide + GAP) + wide / 2
        pen.text((x, 2 * HEAD - 12), head, FAINT, plain, anchor="mm")
    for v, row in enumerate(rows):
        y = 2 * HEAD + v * (tile + GAP)
        pen.text((LEFT, y + tile / 2 - 10), labels[v][0], INK, bold, anchor="lm")
        pen.text((LEFT, y + tile / 2 + 10), labels[v][1], FAINT, plain, anchor="lm")
        for column, part in enumerate(row):
            sheet.paste(part, (margin + column * (wide + GAP) + (wide - part.width) // 2, y))
    return sheet


def _tile(
    picture: Picture | None, box: Float[np.ndarray, "4"], height: int, blank_width: int = 0
) -> Image.Image:
    if picture is None:
        blank = Image.new("RGB", (blank_width or height * 9 // 16, height), (232, 232, 228))
        ImageDraw.Draw(blank).text((blank.width / 2, height / 2), "no picture", FAINT, _font(12), anchor="mm")
        return blank
    scale = height / picture.shape[0]
    size = (max(1, round(picture.shape[1] * scale)), height)
    image = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    if not np.all(np.isfinite(box)):
        return image
    edges = np.asarray(box) * scale
    x0, y0 = np.clip(np.floor(edges[:2]), 0, [size[0] - 3, size[1] - 3])
    x1, y1 = np.clip(np.ceil(edges[2:]) - 1, [x0 + 2, y0 + 2], [size[0] - 1, size[1] - 1])
    # What is outside the box is dimmed: a box that misses a hand is seen at a glance.
    mask = Image.new("L", size, 110)
    ImageDraw.Draw(mask).rectangle((x0, y0, x1, y1), 0)
    image.paste(SHADE, mask=mask)
    ImageDraw.Draw(image).rectangle((x0, y0, x1, y1), outline=BOX, width=2)
    return image


def _crop(
    record: dict[str, Any], view: int, joints: Float[np.ndarray, "17 2"] | None, side: int
) -> Image.Image:
    """A view's crop with its skeleton, where there are any."""
    nothing = np.full(4, np.nan)
    if not record["view_valid"][view]:
        return _tile(None, nothing, side, side)
    image = _tile(tuple_builder.decode_jpeg(record["images"][view]), nothing, side)
    if joints is not None:
        overlay.draw_skeleton(image, joints)
    return image


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
