//! The look of the pages: one style sheet and a few lines of script, both inside the page.

pub(crate) const CSS: &str = r##"
:root{--paper:#fff;--ink:#1d232b;--muted:#59636f;--rule:#dde1e6;--accent:#005f99;--good:#00704f;--panel:#f5f7f9}
@media (prefers-color-scheme:dark){:root{--paper:#15191e;--ink:#e6eaef;--muted:#a3adb9;--rule:#343c46;--accent:#6bb8ea;--good:#4fc79d;--panel:#1d232a}
 svg text{fill:var(--ink)!important} svg line,svg polyline[stroke="#DDE1E6"]{stroke:#343c46} svg polyline[stroke="#333A44"]{stroke:#e6eaef} svg rect[fill="#FFFFFF"]{fill:#1d232a} svg rect[fill="#DDE1E6"]{fill:#343c46}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:2rem 1.25rem 4rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
h1{font-size:1.05rem;font-weight:600;color:var(--muted);margin:0 0 .25rem}
.answer{font-size:1.7rem;line-height:1.25;font-weight:650;margin:0 0 1.25rem;text-wrap:balance}
h2{font-size:1.15rem;margin:2.5rem 0 .75rem;padding-top:1rem;border-top:1px solid var(--rule)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.75rem;margin:0 0 1rem;padding:0}
.facts div{background:var(--panel);border-radius:8px;padding:.75rem 1rem}
.facts dt{color:var(--muted);font-size:.85rem}.facts dd{margin:0;font-size:1.25rem;font-weight:600}
.facts dd small{display:block;font-size:.8rem;font-weight:400;color:var(--muted)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--rule);white-space:nowrap;vertical-align:top}
td.n,th.n{text-align:right}td.wrap{white-space:normal;min-width:12rem}.facts dt,h1,h2,.answer,li,p{overflow-wrap:anywhere}
th{font-weight:600;color:var(--muted)}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
th[aria-sort=ascending] button::after{content:" ↑"}th[aria-sort=descending] button::after{content:" ↓"}
td.best{color:var(--good);font-weight:650}
figure{margin:1.5rem 0}figcaption{font-weight:600;margin-bottom:.4rem}
.image{overflow-x:auto}figure svg{width:100%;min-width:860px;height:auto;display:block}
.spot:hover{fill:var(--ink);fill-opacity:.1}
td.change{color:var(--muted);padding-left:0}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
pre{background:var(--panel);border-radius:8px;padding:1rem;overflow-x:auto;font-size:.85rem;line-height:1.45}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
p.small,ul.small{color:var(--muted);font-size:.88rem}
a{color:var(--accent)}
@media print{body{max-width:none;padding:0}.scroll,.image{overflow:visible}pre{white-space:pre-wrap}h2{break-after:avoid}figure,tr{break-inside:avoid}}
"##;

/// What a comparison's page has beside.
pub(crate) const COMPARE_CSS: &str = r##"
body.wide{max-width:1640px}
.bar{display:flex;flex-wrap:wrap;gap:.5rem 1.25rem;align-items:center;margin:0 0 .75rem;font-size:.92rem}
.bar[hidden],[hidden]{display:none!important}
select,input,.bar button{font:inherit;color:var(--ink);background:var(--panel);border:1px solid var(--rule);border-radius:6px;padding:.2rem .45rem;max-width:22rem}
.bar button{cursor:pointer}
.filters td{padding:.15rem .6rem .4rem}.filters input{width:100%;min-width:5.5rem;font-size:.85rem;padding:.1rem .35rem}.filters input::placeholder{color:var(--muted)}
input[aria-invalid=true]{border-color:#d55e00;outline-color:#d55e00}
details.columns{position:relative}details.columns summary{cursor:pointer;padding:.2rem .45rem}
details.columns>div{position:absolute;z-index:9;left:0;max-width:min(46rem,85vw);max-height:24rem;overflow:auto;display:flex;flex-wrap:wrap;gap:.75rem;background:var(--paper);border:1px solid var(--rule);border-radius:8px;padding:.75rem}
details.columns fieldset{border:0;margin:0;padding:0;min-width:0}details.columns label{display:block;overflow-wrap:anywhere}
/* Long lists scroll within themselves. */.tall{max-height:26rem;overflow:auto}
h3{font-size:1rem;margin:1.25rem 0 .4rem}
.plot{overflow-x:auto;display:flex;flex-wrap:wrap;gap:.5rem 1rem}.plot figure{margin:0}.plot figure svg,.plot svg{min-width:0;max-width:none;width:auto}
.plot{--plot-background:var(--paper)}
tr.differs td{background:color-mix(in srgb,var(--accent) 9%,transparent)}
#recipes td.wrap{min-width:14rem}#recipes th{white-space:normal;overflow-wrap:break-word;max-width:14rem;min-width:5.5rem;vertical-align:bottom}
"##;

/// Sorts a table by the column whose head is pressed; without script the tables stand as they are.
pub(crate) const SCRIPT: &str = r##"
document.querySelectorAll('table.sortable').forEach(function(table){
 table.querySelectorAll('th').forEach(function(th,i){
  var b=document.createElement('button');b.textContent=th.textContent;th.textContent='';th.appendChild(b);
  b.addEventListener('click',function(){
   var up=th.getAttribute('aria-sort')!=='ascending';
   table.querySelectorAll('th').forEach(function(o){o.removeAttribute('aria-sort')});
   th.setAttribute('aria-sort',up?'ascending':'descending');
   var rows=Array.from(table.tBodies[0].rows),numbers=rows.some(function(tr){return tr.cells[i].dataset.v!==undefined});
   var key=function(tr){var c=tr.cells[i];return numbers?(c.dataset.v===undefined?null:parseFloat(c.dataset.v)):c.textContent};
   // What is not known stands last, whichever way.
   rows.sort(function(a,b){var x=key(a),y=key(b);if(x===null||y===null)return (x===null)-(y===null);var d=numbers?x-y:x.localeCompare(y,undefined,{numeric:true});return up?d:-d})
    .forEach(function(r){table.tBodies[0].appendChild(r)});
  });
 });
});
"##;
