"""The HTML of a report: sections, tables, figures and pictures in one file that loads nothing and runs nothing."""

import base64
import dataclasses
import html
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from launch.pages import palette
from launch.pages.style import STYLE

escape = html.escape


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, a sentence or two of plain text under it, and its HTML."""

    title: str
    text: str
    body: str


def document(title: str, lead: str, sections: Sequence[Section], style: str = "", script: str = "") -> str:
    """The whole page; `lead` is HTML under the title, `style` follows the common one, `script` (HTML) ends it."""
    contents = "".join(f'<li><a href="#{_anchor(s.title)}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(
        f'<section id="{_anchor(s.title)}"><h2>{escape(s.title)}</h2>{paragraph(s.text)}{s.body}</section>'
        for s in sections
    )
    number = itertools.count()
    body = re.sub(r"<svg.*?</svg>", lambda m: _renamed(m.group(), f"f{next(number)}-"), body, flags=re.DOTALL)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><style>{STYLE}{style}</style></head><body>'
        f"<header><h1>{escape(title)}</h1>{lead}</header>"
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav><main>{body}</main>{script}</body></html>\n'
    )


def _renamed(svg: str, prefix: str) -> str:
    """An SVG whose names, and references to them, begin with `prefix`: they meet those of no other on the page."""
    return re.sub(r'(?<= id=")|(?<="#)|(?<=url\(#)', prefix, svg)


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def paragraph(text: str) -> str:
    """Plain text; nothing for none."""
    return f"<p>{escape(text)}</p>" if text else ""


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "figures") -> str:
    """A table that scrolls within itself where it is too wide; the first column names the rows.

    `kind` is `figures` (numbers, to the right) or `words`.
    """
    columns = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<p class="caption">{escape(caption)}</p><div class="scroll" role="region" tabindex="0" '
        f'aria-label="{escape(caption)}"><table class="{kind}"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def figure_table(caption: str, rows: Mapping[str, Mapping[str, float]], names: Mapping[str, str]) -> str:
    """Figures by row and by the keys of `names`, which says what heads their columns; a dash for what is not there."""
    cells = (
        [name, *(f"{row[key]:.1f}" if key in row else "–" for key in names)] for name, row in rows.items()
    )
    return table(caption, ["", *names.values()], cells)


def chart(figure: Figure, alt: str, caption: str = "") -> str:
    """A matplotlib figure as part of the page, in the page's colours; `alt` says what is drawn."""
    figcaption = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="chart">{_svg(figure, alt)}{figcaption}</figure>'


def _svg(figure: Figure, alt: str) -> str:
    """An SVG element without colours, names and sizes of its own."""
    buffer = io.StringIO()
    about = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # A fixed salt: the same figure has the same names whenever it is drawn.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mcss"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=about)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    referred = set(re.findall(r"#([\w-]+)[\")]", drawn))
    drawn = re.sub(r' id="([^"]*)"', lambda m: m.group() if m.group(1) in referred else "", drawn)
    drawn = re.sub(r"<style.*?</style>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    for name, shade in palette.SHADES.items():
        drawn = drawn.replace(shade.light, f"var(--{name})")
    width = figure.get_size_inches()[0]
    drawn = re.sub(r' (width|height)="[\d.]+pt"', "", drawn, count=2)
    return drawn.replace(
        "<svg", f'<svg role="img" aria-label="{escape(alt)}" style="max-width:{width:.2f}in"', 1
    )


def charts(drawn: Iterable[str]) -> str:
    """Charts beside each other where there is room."""
    return f'<div class="charts">{"".join(drawn)}</div>'


def picture(jpeg: bytes, alt: str) -> str:
    """A JPEG picture."""
    data = base64.b64encode(jpeg).decode()
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'


def commands(lines: Sequence[str]) -> str:
    """Shell commands to copy, one a block."""
    return "".join(f"<pre><code>{escape(line)}</code></pre>" for line in lines)
