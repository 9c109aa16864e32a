"""A page that shows predictions: pictures with the skeleton over them, a skeleton to be turned, and a time slider.

One file that loads nothing. What is shown lies in it as JSON; `viewer.js` draws it.
"""

import base64
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from jaxtyping import Float

from launch.pages import page
from launch.pages.page import Section
from launch.prediction.camera_views import Views
from launch.prediction.files import file_names
from launch.prediction.frames import instant_of
from launch.prediction.instants import Instants
from launch.prediction.sources import Camera
from launch.prediction.thumbnails import MOST, Thumbnails
from launch.prediction.viewer_style import STYLE
from mcss_jax import skeleton

MOST_BYTES = 25_000_000  # of pictures, as they are in the page
SCRIPT = Path(__file__).with_suffix(".js")
PLACED = (
    "The skeleton over a picture is placed and scaled by the person's box: the network predicts the pose and how it is "
    "turned towards the camera, but neither where nor how far away the person is."
)
FRAMES = (
    "As a camera sees it: the frame of a virtual camera that looks through the middle of the crop. Body's own frame: "
    "the hips lie left to right and the spine points up, so that all views of an instant should agree."
)
COLOURS = "The body's left side is red, its right side blue."


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a page is made of: cameras with their views and thumbnails, instants where there are several cameras."""

    name: str
    about: str
    notes: Sequence[str]
    command: str
    cameras: Sequence[Camera]
    views: Sequence[Views]
    thumbnails: Sequence[Thumbnails]
    interval: float
    instants: Instants | None


def html(predictions: Predictions) -> str:
    """The whole page."""
    numbers, stride = shown_instants(predictions.thumbnails)
    content = _content(predictions, numbers)
    total = len(predictions.instants) if predictions.instants is not None else len(predictions.views[0])
    kind = "instant" if predictions.cameras[0].is_video else "picture"
    some = "" if stride == 1 else f" Shown: one {kind} in {stride}; the tables have all {total:,}."
    lead = page.paragraph(f"{PLACED}{some}")
    sections = [Section("Predictions", "", _stage(predictions, content))]
    if predictions.notes:
        notes = "".join(f"<li>{page.escape(note)}</li>" for note in predictions.notes)
        sections.append(Section("What to look at", "", f'<ul class="missing">{notes}</ul>'))
    meaning = [COLOURS, FRAMES] + (
        [_spread_text(predictions.instants)] if predictions.instants is not None else []
    )
    sections.append(Section("How to read it", "", "".join(map(page.paragraph, meaning))))
    sections.append(
        Section("How it was made", f"Model: {predictions.about}.", page.commands([predictions.command]))
    )
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    script = f'<script type="application/json" id="data">{data}</script><script>{SCRIPT.read_text("utf-8")}</script>'
    return page.document(predictions.name, lead, sections, STYLE, script)


def shown_instants(thumbnails: Sequence[Thumbnails]) -> tuple[list[int], int]:
    """The instants that are shown, and that they are every n-th: what every camera kept, within the page's limits.

    Where none of them is an n-th one, that is the first that any camera kept.
    """
    every = sorted({n for small in thumbnails for n in small.kept})
    stride = max(small.stride for small in thumbnails)
    while True:
        numbers = [n for n in every if n % stride == 0] or every[:1]
        used = sum(len(small.kept[n][1]) for small in thumbnails for n in numbers if n in small.kept) * 4 / 3
        if len(numbers) <= MOST and used <= MOST_BYTES or len(numbers) <= 1:
            return numbers, stride
        stride *= 2


def _content(predictions: Predictions, numbers: Sequence[int]) -> dict[str, Any]:
    """What the script reads; joints in pixels of the small pictures, poses in whole millimetres."""
    rows = [{int(index): row for row, index in enumerate(v.index)} for v in predictions.views]
    empty = [
        {instant_of(time, predictions.interval) for time in v.nobody[np.isfinite(v.nobody)].tolist()}
        for v in predictions.views
    ]
    fused = (
        {} if predictions.instants is None else {int(n): t for t, n in enumerate(predictions.instants.number)}
    )
    instants = []
    for number in numbers:
        views = [
            _view(predictions, camera, rows[camera][small.kept[number][0]], small.kept[number][1])
            if number in small.kept
            else {"label": "nobody was found" if number in empty[camera] else "no picture"}
            for camera, small in enumerate(predictions.thumbnails)
        ]
        t = fused.get(number)
        spread = (
            float("nan")
            if predictions.instants is None or t is None
            else float(predictions.instants.spread[t])
        )
        pose = (
            next(view["canonical"] for view in views if "canonical" in view)
            if predictions.instants is None or t is None
            else _whole(predictions.instants.canonical[t])
        )
        instants.append(
            {
                "label": _label(predictions, number),
                "views": views,
                "canonical": pose,
                "spread": round(spread) if np.isfinite(spread) else None,
            }
        )
    poses = [v.out.canonical for v in predictions.views]
    reach = max(float(np.abs(np.linalg.norm(pose, axis=-1)).max()) for pose in poses)
    step = np.diff(numbers).min() if len(numbers) > 1 else 1
    return {
        "cameras": [camera.name for camera in predictions.cameras],
        "bones": [[parent, joint, _side(joint)] for parent, joint in skeleton.BONES],
        "head": skeleton.JOINTS.index("Head"),
        # Diagonals of the cube that the skeleton turns in reach further than its sides.
        "reach": 0.8 * max(reach, 1.0),
        "milliseconds": round(1000 * predictions.interval * int(step))
        if predictions.cameras[0].is_video
        else 1000,
        "instants": instants,
    }


def _view(predictions: Predictions, camera: int, row: int, jpeg: bytes) -> dict[str, Any]:
    views = predictions.views[camera]
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    joints = views.joints[row] * (np.array([width, height]) / views.size[row])
    camera_of_view = predictions.cameras[camera]
    name = f"frame {views.index[row]}" if camera_of_view.is_video else file_names(camera_of_view, views)[row]
    return {
        "label": name,
        "picture": base64.b64encode(jpeg).decode(),
        "width": width,
        "height": height,
        "joints": [round(value, 1) for value in joints.ravel().tolist()],
        "canonical": _whole(views.out.canonical[row]),
        "inCamera": _whole(views.out.in_camera[row]),
    }


def _whole(pose: Float[np.ndarray, "17 3"]) -> list[int]:
    return [round(value) for value in pose.ravel().tolist()]


def _label(predictions: Predictions, number: int) -> str:
    position = number * predictions.interval
    if predictions.cameras[0].is_video:
        return f"{position:.2f} s"
    return f"picture {position + 1:.0f} of {predictions.cameras[0].frames}"


def _side(joint: int) -> str:
    return "left" if joint in skeleton.LEFT else "right" if joint in skeleton.RIGHT else "middle"


def _stage(predictions: Predictions, content: dict[str, Any]) -> str:
    """Pictures, the skeleton to be turned, and what moves through time."""
    figures = "".join(
        f'<figure class="view"><div><img alt=""><svg aria-hidden="true"></svg></div>'
        f"<figcaption>{page.escape(camera.name)}: <span></span></figcaption></figure>"
        for camera in predictions.cameras
    )
    is_many = len(predictions.cameras) > 1
    body = '<option value="body">mean of the views, body\'s own frame</option>' if is_many else ""
    options = "".join(
        f'<option value="{i}">{page.escape(f"as {c.name} sees it" if is_many else "as the camera sees it")}</option>'
        for i, c in enumerate(predictions.cameras)
    )
    alone = "" if is_many else '<option value="body">body\'s own frame</option>'
    last = len(content["instants"]) - 1
    return (
        f'<div class="stage {"many" if is_many else "one"}"><div class="views">{figures}</div><figure>'
        # Above the drawing: below it the bar that stays at the bottom could hide it.
        f'<label class="choice">Shown: <select id="shown">{body}{options}{alone}</select></label>'
        f'<svg class="solid" viewBox="-145 -145 290 290" tabindex="0" role="img" '
        'aria-label="Predicted skeleton; drag, or use the arrow keys, to turn it"></svg>'
        "<figcaption>Drag to turn; double-click to turn back.</figcaption></figure></div>"
        f'<div class="controls">{_curve(content)}<div><button id="play" type="button">Play</button>'
        f'<input id="time" type="range" min="0" max="{last}" value="0" step="1" aria-label="Instant"></div>'
        '<output id="said" for="time"></output></div>'
    )


def _curve(content: dict[str, Any]) -> str:
    """The spread between the views above the slider, from zero; nothing for one camera."""
    spreads = [instant["spread"] for instant in content["instants"]]
    defined = [spread for spread in spreads if spread is not None]
    if not defined:
        return ""
    top, last = max(*defined, 1), max(len(spreads) - 1, 1)
    runs: list[list[str]] = [[]]
    for i, spread in enumerate(spreads):
        if spread is None:
            runs.append([])
        else:
            runs[-1].append(f"{1000 * i / last:.1f},{100 - 100 * spread / top:.1f}")
    lines = "".join(f'<polyline points="{" ".join(run)}"/>' for run in runs if run)
    return (
        f'<p class="caption">Spread between the views, 0 to {top} mm</p><div class="spread"><svg '
        f'viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="Spread between the views, mm">'
        f'{lines}<line class="mark" y1="0" y2="100"/></svg></div>'
    )


def _spread_text(instants: Instants) -> str:
    defined = instants.spread[np.isfinite(instants.spread)]
    figures = (
        f" Here: median {np.median(defined):.0f} mm, at most {defined.max():.0f} mm." if len(defined) else ""
    )
    return (
        "Spread between the views: how far their joints lie from the mean pose, on average, in the body's own "
        "frame. Where the views contradict each other, at most one of them is right; an error that they share "
        f"stays hidden.{figures}"
    )
