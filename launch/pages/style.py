"""The style of reports: one column on a telephone, dark where the reader wants it, light on paper."""

from launch.pages import palette

_LIGHT = "".join(f"--{name}:{shade.light};" for name, shade in palette.SHADES.items())
_DARK = "".join(f"--{name}:{shade.dark};" for name, shade in palette.SHADES.items())

STYLE = f"""
:root{{color-scheme:light;{_LIGHT}}}
@media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{_DARK}}}}}
*{{box-sizing:border-box}}
body{{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;
max-width:1120px;padding:16px;overflow-wrap:anywhere}}
h1{{font-size:1.6em;line-height:1.2;margin:0 0 8px}}
h2{{font-size:1.25em;line-height:1.3;margin:40px 0 4px}}
h3{{font-size:1em;margin:20px 0 4px}}
p{{margin:4px 0 10px;max-width:46em}}
section>p,figcaption,.where{{color:var(--faint)}}
.caption{{margin:16px 0 0;font-size:.9em}}
a{{color:var(--mcss)}}
nav ul{{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:16px 0;padding:0}}
.gain{{font-size:1.1em}}
.missing{{border-left:4px solid var(--wrong);padding-left:12px}}
.scroll{{overflow-x:auto;margin:0 0 12px}}
table{{border-collapse:collapse;font-size:.9em;font-variant-numeric:tabular-nums;overflow-wrap:normal}}
th,td{{padding:5px 14px 5px 0;border-bottom:1px solid var(--grid);vertical-align:top}}
thead th{{vertical-align:bottom}}
tbody th{{font-weight:normal}}
th:first-child,.words th,.words td{{text-align:left}}
.figures th+th,.figures td{{text-align:right}}
.figures td,.figures tbody th{{white-space:nowrap}}
.figures thead th+th{{min-width:6em}}
.words td{{min-width:14em;max-width:46em;overflow-wrap:anywhere}}
figure{{margin:0}}
figcaption{{font-size:.85em}}
svg,img{{display:block;width:100%;height:auto}}
svg *{{stroke-linejoin:round;stroke-linecap:butt}}
svg text{{fill:var(--ink);font-family:system-ui,sans-serif!important}}
.charts,.cards{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:20px;
margin:12px 0}}
.cards>*{{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,3fr);gap:4px 10px;align-items:start}}
.cards figcaption{{grid-column:1/-1}}
.query{{display:grid;grid-template-columns:clamp(52px,12%,110px) minmax(0,1fr);gap:4px 12px;padding:8px 0;
border-top:1px solid var(--grid)}}
.where{{grid-column:1/-1;margin:0;font-size:.85em}}
.methods{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,255px),1fr));gap:8px 16px}}
.methods h4{{font-size:.85em;font-weight:600;margin:0}}
.triplets{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:12px 20px;
margin:0 0 14px}}
.triplet{{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:4px;break-inside:avoid}}
.triplet figure{{margin:0}}
.triplet img{{width:100%}}
.triplet figcaption{{font-size:.75em}}
.strip{{display:grid;grid-template-columns:repeat(5,minmax(0,1fr));gap:4px}}
.strip img{{border:3px solid transparent}}
.right img{{border:3px solid var(--right)}}
.wrong img{{border:3px dashed var(--wrong)}}
.right figcaption{{color:var(--right);font-weight:600}}
.wrong figcaption{{color:var(--wrong)}}
.strip figcaption{{white-space:nowrap;text-align:center;font-size:.75em}}
pre{{background:color-mix(in srgb,var(--grid) 40%,transparent);padding:10px 12px;border-radius:4px;
white-space:pre-wrap;font-size:.85em}}
@media print{{
body{{max-width:none;padding:0;font-size:10pt}}
nav{{display:none}}
h2,h3,section>p{{break-after:avoid}}
figure,tr,.query,.cards>*,pre{{break-inside:avoid}}
.scroll{{overflow:visible}}
.words td{{min-width:0}}
.strip img{{print-color-adjust:exact}}
}}
"""
