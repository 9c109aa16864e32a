"""Cross-view retrieval with a trained run: query a view, find the same pose in the other cameras.

    python -m launch.retrieve --workdir=runs/mcss --split=test --baseline=runs/baseline
    python -m launch.retrieve --workdir=runs/human36m/mcss_s1 --metadata=metadata.xml \\
        --frame_keys=h36m-val-C0.txt,h36m-val-C1.txt,h36m-val-C2.txt,h36m-val-C3.txt \\
        --same_instant --min_gap=0
    python -m launch.retrieve --workdir=runs/mcss --save_gallery=gallery.npz
    python -m launch.retrieve --workdir=runs/mcss --load_gallery=gallery.npz --queries=my_images/

With poses it reports mean PA-MPJPE@K and Hit@K, over all other cameras together and averaged over all ordered camera
pairs, by camera pair and by action, beside the oracle, chance, an untrained encoder, retrieval by regressed pose and
the supervised-only encoder of --baseline. Without poses it reports the temporal alignment error: query a frame of
camera A, take the nearest frame of camera B of the same sequence, and measure how far apart in time they are.
Pr-VIPE's Hit@K, which its frame keys are for, excludes nothing: the second example is its protocol.
"""

import json
from pathlib import Path

from launch.cli import flags, progress
from launch.evaluation import evaluate
from launch.retrieval import gallery, search_pictures
from launch.retrieval.retrieve import content, embedded, file_name, retrieve, text
from launch.retrieval.settings import Retrieve, check
from launch.runs import run_folder


def main(config: Retrieve) -> None:
    """Prints the tables and the card, and writes them beside the run; or searches with the user's pictures."""
    check(config)
    run = run_folder.open_run(config.workdir, config.step or None)
    if config.load_gallery:
        loaded = gallery.load(config.load_gallery, gallery.identity(run.state))
        return search_pictures.main(run, loaded, config)
    split = evaluate.open_data(run, config.dataset, config.data_dir, config.split)
    if config.queries:
        views = embedded(run, split, config)
    else:
        result = retrieve(run, split, config)
        views = result.views
        progress.say(text(result))
        output = Path(config.workdir).expanduser() / file_name(config, run, split)
        run_folder.write_text(output, json.dumps(content(result), indent=2) + "\n")
        progress.say(f"written to {output}")
    if config.queries or config.save_gallery:
        embedded_gallery = gallery.of_views(split, views, gallery.identity(run.state))
        if config.save_gallery:
            progress.say(
                f"gallery: {len(embedded_gallery):,} views in {gallery.save(embedded_gallery, config.save_gallery)}"
            )
        if config.queries:
            search_pictures.main(run, embedded_gallery, config)


if __name__ == "__main__":
    flags.run(Retrieve, "launch.retrieve", __doc__ or "", main)
