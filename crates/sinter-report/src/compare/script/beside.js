// Two recipes side by side: what differs in their configurations, stage by stage, layer by layer, and the samples that they answer differently.
(function () {
  'use strict';
  if (!window.sinter) return;
  const {data, rows, make, live} = window.sinter, apart = data.apart;
  const told = rows.map((row, r) => row.details ? r : null).filter(r => r !== null);
  if (told.length < 2) return;

  const grid = (label, head, body) => make('div', {className: body.length > 24 ? 'scroll tall' : 'scroll', tabIndex: 0, role: 'region', 'aria-label': label}, make('table', {},
    make('thead', {}, make('tr', {}, ...head.map(h => make('th', {}, h)))),
    make('tbody', {}, ...body.map(line => make('tr', {className: line.differs ? 'differs' : ''}, ...line.cells.map(c => make('td', {className: 'wrap'}, c === '' || c === undefined || c === null ? '–' : String(c))))))));
  const line = (name, a, b) => ({cells: [name, a, b], differs: a !== b});

  // How likely so lopsided a split would be were both equally good: McNemar's exact test (1947), two-sided.
  function chance(a, b) {
    const n = a + b;
    if (!n) return 1;
    let term = -n * Math.LN2, sum = 0;
    for (let k = 0; k <= Math.min(a, b); k++) {
      sum += Math.exp(term);
      term += Math.log(n - k) - Math.log(k + 1);
    }
    return Math.min(1, 2 * sum);
  }

  function keys(a, b) {
    const all = [...new Set([...Object.keys(a.config), ...Object.keys(b.config)])].sort();
    return all.filter(key => a.config[key] !== b.config[key]).map(key => line(key, a.config[key], b.config[key]));
  }

  function layers(a, b) {
    const of = new Map(b.layers.map(layer => [layer[0], layer])), words = layer => layer ? [layer[4], layer[2], layer[3] + ' zeros', layer[1]].join(', ') : undefined;
    const both = a.layers.map(layer => line(layer[0], words(layer), words(of.get(layer[0]))));
    const known = new Set(a.layers.map(layer => layer[0]));
    return [...both, ...b.layers.filter(layer => !known.has(layer[0])).map(layer => line(layer[0], undefined, words(layer)))];
  }

  function samples(a, b, names) {
    if (!apart) return [make('p', {className: 'small'}, 'Which samples are answered differently is not known here: that wants samples.csv of each of the runs that are compared (it is kept where the ONNX file ran in ONNX Runtime), the same data and metric in all, and two hundred runs at most.')];
    const [differ, first, second] = apart.counts[a][b], by = apart.classes.length > 0, class_ = v => v === null ? '' : apart.classes[v] ?? String(v);
    const found = apart.samples.map((sample, i) => ({sample, label: apart.labels[i], a: apart.answers[a][i], b: apart.answers[b][i]})).filter(s => s.a !== s.b);
    if (!by) found.sort((x, y) => Math.abs(y.a - y.b) - Math.abs(x.a - x.b));
    const words = by || apart.labels.some(l => l !== null)
      ? differ + ' of ' + apart.of + ' samples of the test split get another answer: ' + first + ' that only ' + names[0] + ' has right, ' + second + ' that only ' + names[1] + ' has right (p ' + (p => p < 1e-300 ? '< 1e-300' : '= ' + p.toPrecision(2))(chance(first, second)) + ' that so lopsided a split is chance, of this pair alone; McNemar’s exact test).'
      : differ + ' of ' + apart.of + ' samples of the test split score differently.';
    const shown = found.slice(0, 100), value = v => by || apart.labels[0] !== null ? class_(v) : v === null ? '' : String(+v.toPrecision(5));
    return [make('p', {}, words), ...(shown.length ? [grid('Samples', ['Sample', 'Label', ...names], shown.map(s => ({cells: [s.sample, class_(s.label), value(s.a), value(s.b)], differs: false})))] : []),
      ...(found.length > shown.length || found.length < differ ? [make('p', {className: 'small'}, 'The first ' + shown.length + ' are shown; samples.csv in each run’s folder has all.')] : [])];
  }

  const list = chosen => make('select', {on: {change: draw}}, ...told.map(r => make('option', {value: r, selected: r === chosen}, rows[r].name)));
  const left = list(told[0]), right = list(told[1]), at = make('div');
  function draw() {
    const [a, b] = [Number(left.value), Number(right.value)], names = [rows[a].name, rows[b].name], [x, y] = [rows[a].details, rows[b].details], differing = keys(x, y);
    const stages = d3.range(Math.max(x.stages.length, y.stages.length)).map(i => { const words = s => s ? s.join(': ') : undefined; return line(i, words(x.stages[i]), words(y.stages[i])); });
    const metrics = [...new Set([...x.quality, ...y.quality].map(q => q[0]))].map(name => { const words = d => { const q = d.quality.find(q => q[0] === name); return q && [q[2], q[3]].filter(Boolean).join('; '); }; return line(name, words(x), words(y)); });
    at.replaceChildren(
      make('h3', {}, 'What differs in the recipes'), differing.length ? grid('What differs', ['Key', ...names], differing) : make('p', {}, 'Nothing: the configurations are the same.'),
      ...(metrics.length ? [make('h3', {}, 'Quality, against each float model'), grid('Quality', ['Metric', ...names], metrics)] : []),
      make('h3', {}, 'Samples that are answered differently'), ...samples(a, b, names),
      make('h3', {}, 'Stage by stage'), grid('Stages', ['After', ...names], stages), make('h3', {}, 'Layer by layer'), ...(Math.max(x.layers.length, y.layers.length) >= 200 ? [make('p', {className: 'small'}, 'The two hundred largest of each; one that is missing may be smaller.')] : []), grid('Layers', ['Layer', ...names], layers(x, y)));
  }
  live.append(make('section', {id: 'beside'}, make('h2', {}, 'Two side by side'), make('div', {className: 'bar'}, make('label', {}, 'this ', left), make('label', {}, 'and that ', right)), at));
  draw();
})();
