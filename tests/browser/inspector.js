// Looks at a page from beside it: `found` gets one complaint a line. Runs in the test of the same name.
const frame = document.querySelector('iframe'), view = frame.contentWindow, page = frame.contentDocument, found = [];
const rgba = text => { const n = (text.match(/[\d.]+/g) || []).map(Number); return n.length < 3 ? [0,0,0,0] : [n[0],n[1],n[2],n.length > 3 ? n[3] : 1]; };
const over = (top, below) => [0,1,2].map(i => top[i]*top[3] + below[i]*(1-top[3])).concat(1);
const light = c => { const l = [0,1,2].map(i => { const v = c[i]/255; return v <= .04045 ? v/12.92 : ((v+.055)/1.055)**2.4; }); return .2126*l[0]+.7152*l[1]+.0722*l[2]; };
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x+.05)/(y+.05); };
if (page.documentElement.scrollWidth > view.innerWidth) {
  const wide = [...page.querySelectorAll('body *')].filter(e => !e.closest('.scroll,.image,pre') && e.getBoundingClientRect().right > view.innerWidth + 1);
  found.push('overflows: ' + page.documentElement.scrollWidth + ' of ' + view.innerWidth + ' px: ' + wide.slice(0, 3).map(e => e.tagName + '.' + e.className).join(', '));
}
const behind = element => { const layers = []; for (let e = element; e; e = e.parentElement) layers.push(rgba(view.getComputedStyle(e).backgroundColor)); return layers.reverse().reduce((below, top) => over(top, below), [255,255,255,1]); };
let texts = 0;
for (const e of page.querySelectorAll('body *')) {
  if (e.closest('svg') || !e.textContent.trim() || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
  const style = view.getComputedStyle(e);
  if (style.display === 'none' || style.visibility === 'hidden' || ['SCRIPT','STYLE'].includes(e.tagName)) continue;
  texts++;
  const r = ratio(over(rgba(style.color), behind(e)), behind(e));
  if (r < 4.5) found.push('contrast ' + r.toFixed(2) + ': ' + e.tagName + ' ' + e.textContent.trim().slice(0, 40));
}
for (const svg of page.querySelectorAll('svg')) {
  const under = behind(svg.parentElement), shapes = [...svg.querySelectorAll('rect:not(.spot)')].map(s => {
    const style = view.getComputedStyle(s), fill = rgba(style.fill); fill[3] *= Number(style.opacity) * Number(style.fillOpacity);
    return [s, s.getBoundingClientRect(), fill];
  });
  for (const t of svg.querySelectorAll('text')) {
    texts++;
    const box = t.getBoundingClientRect(), x = box.x + box.width/2, y = box.y + box.height/2;
    const back = shapes.filter(([s, b]) => b.left <= x && x <= b.right && b.top <= y && y <= b.bottom && s.compareDocumentPosition(t) & 4)
      .reduce((below, [, , fill]) => over(fill, below), under);
    const r = ratio(rgba(view.getComputedStyle(t).fill), back);
    if (r < 4.5) found.push('contrast ' + r.toFixed(2) + ' in a chart: ' + t.textContent.trim().slice(0, 40));
  }
}
const fetched = view.performance.getEntriesByType('resource').map(e => e.name);
if (fetched.length) found.push('fetched: ' + fetched.join(', '));
if (texts < 40) found.push('only ' + texts + ' texts were seen');
if (page.querySelectorAll(page.getElementById('live') ? '#live svg circle' : 'svg .spot title').length < 5) found.push('no values under the pointer');
for (const table of page.querySelectorAll('table.sortable')) {
  const heads = [...table.querySelectorAll('th button')], rows = () => [...table.tBodies[0].rows].map(r => Number(r.cells[heads.length - 1].dataset.v));
  if (!heads.length) { found.push('a table that can not be sorted'); continue; }
  heads[heads.length - 1].click();
  if (rows().some((v, i, all) => i && all[i-1] > v)) found.push('a table sorts wrongly');
}
