"""`launch.retrieve --queries`: the user's own pictures against a gallery; a table, a sheet of pictures, and JSON."""

import json
from collections.abc import Callable
from pathlib import Path

from datasets.footage import contact_sheet
from datasets.tuples import pipeline
from datasets.tuples.records import decode_jpeg
from launch.cli import progress
from launch.retrieval import query_pictures
from launch.retrieval.gallery import Gallery
from launch.retrieval.query_pictures import Picture
from launch.retrieval.settings import Retrieve
from launch.runs import run_folder


def main(run: run_folder.Run, gallery: Gallery, config: Retrieve) -> None:
    """Searches, prints what is nearest to each picture, and writes it beside the run.

    Raises UserError as `query_pictures.files_in` and `query_pictures.search` do.
    """
    files = query_pictures.files_in(config.queries)
    pictures, indices, distances = query_pictures.search(
        run.state, gallery, files, run.card["image_size"], config.neighbours, config.batch
    )
    names = [path.name for path in files]
    progress.say(query_pictures.table(names, gallery, indices, distances))
    folder = Path(config.workdir).expanduser()
    stem = f"queries_{Path(config.queries).expanduser().resolve().stem}"
    picture = gallery_picture(run, gallery, config.data_dir)
    sheet = query_pictures.sheet(pictures, names, gallery, indices, distances, picture)
    content = {
        "gallery": {"split": gallery.split, "fingerprint": gallery.fingerprint, "views": len(gallery)},
        "network": gallery.network,
        "queries": {
            name: [
                {"view": gallery.name(i), "record": int(gallery.record[i]), "distance": d}
                for i, d in zip(row, far, strict=True)
            ]
            for name, row, far in zip(names, indices.tolist(), distances.tolist(), strict=True)
        },
    }
    run_folder.write_text(folder / f"{stem}.json", json.dumps(content, indent=2) + "\n")
    progress.say(f"written to {folder / stem}.json and {contact_sheet.save(sheet, folder / f'{stem}.png')}")


def gallery_picture(run: run_folder.Run, gallery: Gallery, data_dir: str) -> Callable[[int], Picture] | None:
    """Gives the gallery's pictures by index, when the prepared set that it was made of is at hand; else None."""
    full_name, _, name = gallery.split.partition(":")
    data_dir = data_dir or run.config.data.data_dir
    try:
        split = pipeline.open_split(data_dir, full_name.rpartition("/")[0], name)
    except pipeline.NotPrepared:
        progress.say(f"{gallery.split} is not in {data_dir}: the gallery's views are named, not shown")
        return None
    if split.fingerprint != gallery.fingerprint:
        progress.say(
            f"{gallery.split} in {data_dir} has fingerprint {split.fingerprint}, the gallery's had "
            f"{gallery.fingerprint}: its views are named, not shown"
        )
        return None

    def picture(index: int) -> Picture:
        return decode_jpeg(split[int(gallery.record[index])]["images"][int(gallery.view[index])])

    return picture
