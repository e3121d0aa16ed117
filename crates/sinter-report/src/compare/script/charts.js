// The page of a comparison: what stands in the table is filtered, drawn and set side by side. Draws with Observable Plot.
(function () {
  'use strict';
  const data = JSON.parse(document.getElementById('data').textContent);
  const {columns, rows} = data;
  const table = document.getElementById('recipes');
  if (!rows.length) return;
  const lines = [...table.tBodies[0].rows];
  const cell = (row, column) => rows[row].cells[column];
  const text = (row, column) => lines[row].cells[column].textContent.trim();
  const all = rows.map((_, i) => i);
  const numeric = columns.map((_, c) => all.some(r => cell(r, c) !== null) && all.every(r => cell(r, c) === null || typeof cell(r, c) === 'number'));
  const varies = c => new Set(all.map(r => cell(r, c)).filter(v => v !== null)).size > 1;
  const of = kind => columns.map((_, c) => c).filter(c => columns[c].kind === kind && (kind === 'about' || varies(c)));
  const keys = of('recipe'), figures = of('figure').filter(c => numeric[c]);
  const colors = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#8a6d00', '#56b4e9', '#7a7a7a'];
  let visible = all;

  const make = (tag, options = {}, ...inside) => {
    const {on, ...rest} = options, element = document.createElement(tag);
    for (const [name, value] of Object.entries(rest)) if (name in element) element[name] = value; else element.setAttribute(name, value);
    for (const [name, heard] of Object.entries(on || {})) element.addEventListener(name, heard);
    element.append(...inside);
    return element;
  };

  // Numbers along an axis.
  const digits = v => String(+v.toPrecision(4));
  const prefixed = unit => v => v === 0 ? '0' : d3.format('.3~s')(v).replace('−', '-') + unit;
  const marks = {
    plain: v => typeof v !== 'number' ? String(v) : Math.abs(v) >= 1e5 ? d3.format('.3~s')(v) : digits(v),
    percent: v => digits(v * 100) + ' %',
    bytes: v => v >= 1048576 ? digits(v / 1048576) + ' MiB' : v >= 1024 ? digits(v / 1024) + ' KiB' : digits(v) + ' B',
    joules: prefixed('J'), seconds: prefixed('s'),
  };
  const mark = c => numeric[c] ? marks[columns[c].scale] : String;
  // Along an axis the unit stands once, and numbers are round in it.
  const unit = (c, drawn) => {
    const most = d3.max(drawn, r => Math.abs(cell(r, c))) || 0, {scale} = columns[c];
    if (scale === 'percent') return [100, '%'];
    if (scale === 'bytes') return most >= 1048576 ? [1 / 1048576, 'MiB'] : most >= 1024 ? [1 / 1024, 'KiB'] : [1, 'B'];
    if (scale !== 'joules' && scale !== 'seconds') return [1, ''];
    const [power, prefix] = [[1, ''], [1e-3, 'm'], [1e-6, 'µ'], [1e-9, 'n']].find(([p]) => most >= p) || [1e-12, 'p'];
    return [1 / power, prefix + (scale === 'joules' ? 'J' : 's')];
  };
  const spans = (c, drawn) => { const e = d3.extent(drawn, r => cell(r, c)); return e[0] > 0 && e[1] / e[0] > 20; };
  function axis(c, drawn, length) {
    const {name} = columns[c];
    if (!numeric[c]) return {type: 'point', label: name, domain: [...new Set(drawn.map(r => cell(r, c)))].sort()};
    const [factor, sign] = unit(c, drawn), log = spans(c, drawn);
    return {type: log ? 'log' : 'linear', transform: v => v * factor, label: sign ? name + ', ' + sign : name, tickFormat: log ? '~g' : marks.plain, grid: true, nice: true, ticks: Math.max(3, Math.round(length / 110))};
  }
  const told = r => [rows[r].name, ...columns.map((c, i) => c.shown && c.kind !== 'about' && cell(r, i) !== null ? c.name + ': ' + text(r, i) : null).filter(Boolean)].join('\n');
  const TIP = {fill: 'var(--panel)', stroke: 'var(--rule)'};
  const style = {background: 'transparent', color: 'var(--ink)', fontSize: '13px', fontFamily: 'inherit', overflow: 'visible'};
  const shade = (c, drawn) => c === null ? {} : numeric[c]
    ? {range: ['#e69f00', '#0072b2'], type: spans(c, drawn) ? 'log' : 'linear', label: columns[c].name, tickFormat: mark(c), legend: true}
    : {range: colors, type: 'ordinal', label: columns[c].name, legend: true};

  // What one way is better in: rows that no other is better than in both.
  function front(drawn, x, y) {
    if (!columns[x].better || !columns[y].better || x === y) return [];
    const sign = c => columns[c].better === 'lower' ? 1 : -1;
    const order = [...drawn].sort((a, b) => sign(x) * (cell(a, x) - cell(b, x)) || sign(y) * (cell(a, y) - cell(b, y)));
    let best = Infinity;
    return order.filter(r => sign(y) * cell(r, y) < best && (best = sign(y) * cell(r, y), true));
  }
  const steps = (ends, x, y) => ends.flatMap((r, i) => [...(i ? [[cell(r, x), cell(ends[i - 1], y)]] : []), [cell(r, x), cell(r, y)]]);

  // Charts: each draws itself into its figure, from the rows that are left.
  const charts = [];
  function chart(title, note, controls, draw) {
    const at = make('div', {className: 'plot', tabIndex: 0, role: 'region', 'aria-label': title}), below = make('p', {className: 'small'}, note);
    const bar = make('div', {className: 'bar'}, ...controls);
    const section = make('section', {}, make('h2', {}, title), ...(controls.length ? [bar] : []), at, below);
    live.append(section);
    charts.push(() => {
      const found = draw(Math.max(320, at.clientWidth || live.clientWidth || 320), words => { below.textContent = words; });
      at.replaceChildren(...[found].flat().filter(Boolean));
      section.hidden = !found;
    });
  }
  const redraw = () => charts.forEach(draw => draw());
  function choose(label, choices, chosen, none) {
    const list = make('select', {on: {change: redraw}}, ...(none ? [make('option', {value: ''}, none)] : []),
      ...choices.map(c => make('option', {value: c, selected: c === chosen}, columns[c].name)));
    return {at: make('label', {}, label + ' ', list), get value() { return list.value === '' ? null : Number(list.value); }};
  }
  const plot = (title, options, points) => Plot.plot({style, ...options, ariaLabel: title, ariaDescription: points.length + ' recipes'});

  const live = document.getElementById('live');
  const axes = [...figures, ...keys, ...of('about').filter(varies)];
  const cost = figures.find(c => columns[c].scale === 'bytes' && columns[c].better) ?? figures.find(c => !columns[c].metric) ?? figures[0];
  const quality = figures.find(c => columns[c].metric) ?? figures.find(c => c !== cost) ?? cost;

  if (rows.length > 1 && axes.length > 1 && quality !== undefined) {
    const x = choose('across', axes, cost), y = choose('up', axes, quality), tint = choose('colour', axes, null, 'none');
    chart('One figure against another', '', [x.at, y.at, tint.at], (width, say) => {
      const drawn = visible.filter(r => cell(r, x.value) !== null && cell(r, y.value) !== null);
      if (!drawn.length) return say('No row that is shown has both figures.'), make('span');
      const ends = front(drawn, x.value, y.value), stair = steps(ends, x.value, y.value), hue = tint.value, height = Math.min(520, 180 + width / 3);
      say(stair.length ? 'The grey stair is the front: recipes that no other is better than in both. A point leads to its page, where it has one.' : 'A point leads to its page, where it has one.');
      return plot('One figure against another', {
        width, height, inset: 10, marginTop: 32, marginLeft: 76, marginBottom: 48, marginRight: 40, x: axis(x.value, drawn, width), y: axis(y.value, drawn, height * 2), color: shade(hue, drawn),
        marks: [
          Plot.line(stair, {stroke: 'var(--muted)', strokeWidth: 1.5, strokeOpacity: .8}),
          Plot.dot(drawn, {x: r => cell(r, x.value), y: r => cell(r, y.value), r: 5, fill: hue === null ? '#0072b2' : r => cell(r, hue), stroke: 'var(--paper)', strokeWidth: .7,
            href: r => rows[r].link, title: told, tip: {...TIP, maxRadius: 24, lineWidth: 30}}),
          Plot.text(ends.length > 12 ? [] : ends, {x: r => cell(r, x.value), y: r => cell(r, y.value), text: r => rows[r].name, dy: -12, fill: 'currentColor', stroke: 'var(--paper)', strokeWidth: 4}),
        ],
      }, drawn);
    });
  }

  const ways = [...keys.filter(c => columns[c].shown), ...figures.filter(c => columns[c].shown)].slice(0, 10);
  if (rows.length > 2 && ways.length > 2) {
    const tint = choose('colour', axes, quality);
    chart('Every recipe across its columns', 'A line is a recipe. Filters above the table thin them out; the columns that are chosen there stand here.', [tint.at], width => {
      const ways = [...keys, ...figures].filter(c => columns[c].shown).slice(0, 12);
      if (ways.length < 2) return null;
      const name = c => columns[c].name, step = Math.max(96, width / ways.length), hue = tint.value;
      const scale = new Map(ways.map(c => {
        const there = visible.filter(r => cell(r, c) !== null), domain = numeric[c] ? d3.extent(there, r => cell(r, c)) : [...new Set(there.map(r => cell(r, c)))].sort();
        return [c, numeric[c] ? (spans(c, there) ? d3.scaleLog : d3.scaleLinear)(domain, domain[0] === domain[1] ? [.5, .5] : [0, 1]) : d3.scalePoint(domain, [0, 1])];
      }));
      const points = visible.flatMap(r => ways.map(c => ({r, c, v: cell(r, c) === null ? null : scale.get(c)(cell(r, c))})));
      const ends = ways.flatMap(c => (numeric[c] ? [...new Set(scale.get(c).domain())] : scale.get(c).domain()).slice(0, 12).map(v => ({c, v: scale.get(c)(v), text: mark(c)(v)})));
      return plot('Every recipe across its columns', {
        width: step * ways.length, height: 380, marginTop: 40, marginBottom: 24, marginLeft: 48, marginRight: 48, color: shade(hue, visible),
        x: {type: 'point', domain: ways, tickFormat: c => name(c).length > step / 8.5 ? name(c).slice(0, step / 8.5 - 1) + '…' : name(c), axis: 'top', label: null, tickSize: 0}, y: {axis: null, domain: [0, 1]},
        marks: [
          Plot.ruleX(ways, {stroke: 'var(--rule)'}),
          Plot.line(points, {x: 'c', y: 'v', z: 'r', stroke: hue === null ? '#0072b2' : d => cell(d.r, hue), strokeOpacity: visible.length > 60 ? .35 : .7, strokeWidth: 1.5,
            title: d => rows[d.r].name + '\n' + name(d.c) + ': ' + text(d.r, d.c), tip: TIP}),
          Plot.text(ends, {x: 'c', y: 'v', text: 'text', dx: 5, textAnchor: 'start', fill: 'currentColor', stroke: 'var(--paper)', strokeWidth: 4, fontSize: 12}),
        ],
      }, visible);
    });
  }

  if (data.importance.length) {
    const list = make('select', {on: {change: redraw}}, ...data.importance.map((i, at) => make('option', {value: at, selected: i.figure === quality}, columns[i.figure].name)));
    chart('What a figure hangs on', '', [make('label', {}, 'figure ', list)], (width, say) => {
      const {foretold, shares} = data.importance[Number(list.value)], drawn = shares.slice(0, 15).map(([c, share]) => ({name: columns[c].name, share}));
      say((foretold < .5 ? 'Take it with caution: a forest that learnt these recipes foretells only ' : 'A forest that learnt these recipes foretells ') + d3.format('.0%')(Math.max(0, foretold)) +
        ' of the differences between recipes that it has not seen. A share says how much worse it does when the key is shuffled (permutation importance; Breiman, 2001), over all rows.');
      return plot('What a figure hangs on', {
        width, height: 50 + 28 * drawn.length, marginLeft: Math.min(300, 30 + 8 * d3.max(drawn, d => d.name.length)), marginRight: 60, x: {axis: null}, y: {label: null, tickSize: 0, domain: drawn.map(d => d.name)},
        marks: [Plot.barX(drawn, {x: 'share', y: 'name', fill: '#0072b2', insetTop: 3, insetBottom: 3}), Plot.text(drawn, {x: 'share', y: 'name', text: d => d3.format('.0%')(d.share), textAnchor: 'start', dx: 6, fill: 'currentColor'})],
      }, drawn);
    });
  }

  if (rows.length > 4 && keys.length && quality !== undefined) {
    const y = choose('figure', figures, quality);
    chart('Slices: a figure over each key', 'All other keys vary along.', [y.at], width => {
      const ranked = (data.importance.find(i => i.figure === y.value) || {shares: keys.map(c => [c])}).shares.map(([c]) => c).slice(0, 9), wide = Math.min(width, Math.max(300, width / 3 - 16));
      const one = c => {
        const drawn = visible.filter(r => cell(r, c) !== null && cell(r, y.value) !== null);
        return !drawn.length ? null : plot('Slice of ' + columns[c].name, {
          width: wide, height: 240, inset: 8, marginTop: 28, marginLeft: 70, marginBottom: 42, x: {...axis(c, drawn, wide), grid: false}, y: axis(y.value, drawn, 330),
          marks: [Plot.dot(drawn, {x: r => cell(r, c), y: r => cell(r, y.value), r: 3.5, fill: '#0072b2', fillOpacity: .7, title: told, tip: {...TIP, maxRadius: 16, lineWidth: 30}})],
        }, drawn);
      };
      const found = ranked.map(one).filter(Boolean);
      return found.length ? found : null;
    });
  }

  const curves = [...new Set(rows.flatMap(r => Object.keys(r.curves)))];
  if (curves.length) {
    const list = make('select', {on: {change: redraw}}, ...curves.map(c => make('option', {value: c}, c)));
    chart('On the way', '', [make('label', {}, 'what ', list)], (width, say) => {
      const drawn = visible.filter(r => rows[r].curves[list.value]), points = drawn.flatMap(r => rows[r].curves[list.value].map(([x, y]) => ({r, x, y})));
      if (!points.length) return say('No row that is shown has it.'), make('span');
      const few = drawn.length <= colors.length, share = list.value.includes('validation') && columns.some(c => c.metric && c.scale === 'percent' && list.value.startsWith(c.name));
      say(few ? '' : drawn.length + ' recipes; the pointer tells which is which.');
      return plot('On the way', {
        width, height: Math.min(480, 160 + width / 3), inset: 6, marginTop: 28, marginLeft: 70, marginBottom: 44, marginRight: 24, color: few ? {range: colors, domain: drawn.map(r => rows[r].name), legend: true} : {},
        x: {label: 'epoch', ticks: d3.ticks(...d3.extent(points, d => d.x), 12).filter(Number.isInteger), tickFormat: String}, y: {grid: true, label: share ? list.value + ', %' : list.value, transform: v => share ? v * 100 : v, tickFormat: marks.plain, ticks: 7},
        marks: [
          Plot.line(points, {x: 'x', y: 'y', z: 'r', stroke: few ? d => rows[d.r].name : '#0072b2', strokeOpacity: few ? 1 : .4, strokeWidth: 1.6}),
          Plot.dot(points, {x: 'x', y: 'y', r: 2.5, fill: few ? d => rows[d.r].name : '#0072b2', title: d => rows[d.r].name + '\nepoch ' + d.x + ': ' + (share ? marks.percent : digits)(d.y), tip: TIP}),
        ],
      }, drawn);
    });
  }

  window.sinter = {data, columns, rows, lines, cell, text, all, numeric, make, live, redraw, get visible() { return visible; }, show(found) { visible = found; redraw(); }};
})();
