"""The user's own pictures as queries: read, embedded, and shown beside the gallery views nearest to them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from launch.cli import progress
from launch.retrieval import gallery as galleries
from mcss_jax.errors import UserError
from mcss_jax.padding import padded
from mcss_jax.search import retrieval
from mcss_jax.storage.model import fitted
from mcss_jax.training import parallel
from mcss_jax.training.state import TrainState

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
ROWS = 50  # queries that a sheet shows at most
_TILE, _GAP, _CAPTION = 160, 8, 34
_PAPER, _INK, _BLANK = (250, 250, 248), (30, 32, 36), (232, 232, 228)

Picture = UInt8[np.ndarray, "s s 3"]


def files_in(folder: str | Path) -> list[Path]:
    """The pictures of a folder by name, or the one picture that is named.

    Raises UserError when there is no such folder or file, or it holds no picture.
    """
    folder = Path(folder).expanduser()
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; --queries names a folder of pictures")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not files:
        raise UserError(f"{folder} holds no picture; expected files ending in {', '.join(ENDINGS)}")
    return files


def read(path: Path, size: int) -> Picture:
    """A picture of any size as the crop of a person: padded with black to a square, resized, upright.

    Raises UserError when it cannot be read.
    """
    try:
        with Image.open(path) as file:
            picture = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not a readable picture ({error})") from error
    return fitted(picture, size)


def embed(state: TrainState, pictures: UInt8[np.ndarray, "n s s 3"], batch: int) -> Float[np.ndarray, "n d"]:
    """The embeddings of pictures, `batch` at a time."""
    run = parallel.pmap_embed()
    embeddings = []
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        # One compilation serves every batch.
        embeddings.append(run(state, padded(part, min(batch, len(pictures)))).embedding[: len(part)])
    return np.concatenate(embeddings)


def nearest(
    queries: Float[np.ndarray, "n d"], gallery: galleries.Gallery, k: int
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """(indices, distances) of the k nearest gallery views of every query.

    Raises UserError when the gallery has fewer than k.
    """
    if not 1 <= k <= len(gallery):
        raise UserError(f"--neighbours={k} is not from 1 to the gallery's size, {len(gallery):,} views")
    return retrieval.nearest(queries, gallery.embedding, k)


def table(
    names: Sequence[str],
    gallery: galleries.Gallery,
    indices: Int[np.ndarray, "n k"],
    distances: Float[np.ndarray, "n k"],
) -> str:
    """Queries and the neighbours of each, nearest first, with distances of embeddings."""
    lines = []
    for name, row, far in zip(names, indices, distances, strict=True):
        lines.append(name)
        lines += [f"  {d:6.3f}  {gallery.name(int(i))}" for i, d in zip(row, far, strict=True)]
    return "\n".join(lines)


def sheet(
    queries: Sequence[Picture],
    names: Sequence[str],
    gallery: galleries.Gallery,
    indices: Int[np.ndarray, "n k"],
    distances: Float[np.ndarray, "n k"],
    picture: Callable[[int], Picture] | None,
) -> Image.Image:
    """A row for each query (the first `ROWS`): its picture, then the nearest views of the gallery.

    `picture(i)` is the gallery's picture i; without it the views are only named.
    """
    shown = min(len(queries), ROWS)
    columns = 1 + indices.shape[1]
    out = Image.new(
        "RGB", (_GAP + columns * (_TILE + _GAP), _GAP + shown * (_TILE + _CAPTION + _GAP)), _PAPER
    )
    for row in range(shown):
        _paste(out, row, 0, queries[row], names[row], "")
        for column, (index, far) in enumerate(zip(indices[row], distances[row], strict=True), 1):
            shown_view = None if picture is None else picture(int(index))
            where = f"camera {gallery.camera[index]}, frame {gallery.frame[index]}, {far:.3f}"
            _paste(out, row, column, shown_view, str(gallery.sequence[index]), where)
    return out


def _paste(sheet: Image.Image, row: int, column: int, picture: Picture | None, *lines: str) -> None:
    x, y = _GAP + column * (_TILE + _GAP), _GAP + row * (_TILE + _CAPTION + _GAP)
    tile = Image.new("RGB", (_TILE, _TILE), _BLANK)
    if picture is not None:
        tile = Image.fromarray(picture).resize((_TILE, _TILE), Image.Resampling.BILINEAR)
    sheet.paste(tile, (x, y))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for line, text in enumerate(lines):
        pen.text((x, y + _TILE + 3 + 14 * line), _shortened(text, font), _INK, font)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """What of a text fits under a tile."""
    while font.getlength(text) > _TILE:
        text = text[:-2].rstrip(".") + "."
    return text


def search(
    state: TrainState, gallery: galleries.Gallery, files: Sequence[Path], size: int, k: int, batch: int
) -> tuple[list[Picture], Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """(pictures, indices, distances) of the user's files; raises as `read` and `nearest` do."""
    pictures = [read(path, size) for path in progress.bar(files, "read the queries", "picture")]
    indices, distances = nearest(embed(state, np.stack(pictures), batch), gallery, k)
    return pictures, indices, distances
