"""What the viewer's style has beside that of reports."""

STYLE = """
.views{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,130px),1fr));gap:12px;align-items:start}
.one .views{grid-template-columns:minmax(0,1fr)}
.one .view{text-align:center}
.stage{display:grid;grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:16px;align-items:start;margin:12px 0}
.view div{position:relative;line-height:0}
.view img{max-height:70vh;width:auto;max-width:100%;height:auto}
.view svg{position:absolute;inset:0;width:100%;height:100%}
.view div{display:inline-block}
.absent div{visibility:hidden}
.bone{stroke-linecap:round!important}
.view .bone{stroke-width:var(--thick)}
.view .left{stroke:#ff4242}.view .right{stroke:#40a0ff}.view .middle{stroke:#ffde40}
.solid{border:1px solid var(--grid);border-radius:4px;touch-action:none;cursor:grab;aspect-ratio:1;max-height:45vh}
.choice{display:block;margin-bottom:4px;font-size:.9em}
.solid .bone{stroke-width:3.5}
.solid .left{stroke:var(--left-side);stroke-width:5}
.solid .right{stroke:var(--right-side)}
.solid .middle,.head{stroke:var(--ink)}
.head{fill:var(--paper);stroke-width:3}
.cube{stroke:var(--grid);stroke-width:1}
.other{opacity:.35}
.solid .other .bone{stroke-width:1.5}
.controls{position:sticky;bottom:0;background:var(--paper);padding:8px 0;border-top:1px solid var(--grid)}
.controls>div{display:flex;gap:12px;align-items:center}
.controls input{flex:1;min-width:0;margin:0;accent-color:var(--mcss);height:32px}
.controls output{display:block;font-variant-numeric:tabular-nums;font-size:.9em;min-height:1.5em}
button,select{font:inherit;font-size:.9em;color:var(--ink);background:var(--paper);border:1px solid var(--faint);
border-radius:4px;padding:4px 10px;min-height:36px;max-width:100%}
button{min-width:5em}
.spread{height:40px;padding-left:calc(5em + 12px + 8px);padding-right:8px}
.spread svg{height:100%;overflow:visible}
.spread polyline{fill:none;stroke:var(--mcss);stroke-width:1.5;vector-effect:non-scaling-stroke}
.mark{stroke:var(--ink);stroke-width:1;vector-effect:non-scaling-stroke}
@media (max-width:700px){
.stage{grid-template-columns:minmax(0,1fr)}
.many .views{grid-template-columns:repeat(2,minmax(0,1fr))}
.view img{max-height:55vh}
.solid{max-height:none}
}
@media print{.controls{position:static}}
"""
