// Above the table: a field for each column that thins out the rows, and a list of columns to choose from.
(function () {
  'use strict';
  if (!window.sinter) return;
  const {columns, rows, lines, cell, text, all, numeric, make, show, redraw} = window.sinter;
  const table = document.getElementById('recipes'), bar = document.getElementById('bar'), hidden = document.getElementById('hidden');
  const small = {'': 1, m: 1e-3, u: 1e-6, 'µ': 1e-6, n: 1e-9, p: 1e-12};
  // Units of each scale. A bare number is in percent where the column is, else in bytes, joules, seconds.
  const units = {
    plain: {'': 1, '%': .01, k: 1e3, m: 1e6, g: 1e9, x: 1, '×': 1}, percent: {'': .01, '%': .01}, joules: small, seconds: small,
    bytes: {'': 1, b: 1, k: 1024, kb: 1e3, kib: 1024, m: 1048576, mb: 1e6, mib: 1048576, g: 1073741824, gb: 1e9, gib: 1073741824},
  };

  // `90%`, `64 KiB`; null where it is none.
  function number(words, {scale}) {
    const found = /^([-+]?[\d.]+(?:e[-+]?\d+)?)\s*([a-zµ%×]*)$/i.exec(words.trim()), sign = {joules: /j$/, seconds: /s$/}[scale];
    const factor = found && units[scale][sign ? found[2].toLowerCase().replace(sign, '') : found[2].toLowerCase()];
    return found && factor !== undefined && isFinite(found[1]) ? Number(found[1]) * factor : null;
  }

  // What a field asks of a row; null where it can't be read.
  function asked(column, words) {
    words = words.trim();
    if (!words) return () => true;
    const parts = words.startsWith('!') ? words.slice(1).trim().toLowerCase() : words.toLowerCase(), holds = r => text(r, column).toLowerCase().includes(parts);
    if (!numeric[column]) return words.startsWith('!') ? r => !holds(r) : holds;
    let range = words.split('..');
    // `64..128 KiB`: a unit at the end is meant for both.
    const last = /[a-zµ%×]+$/i.exec(words);
    if (range.length === 2 && last && /\d\s*$/.test(range[0])) range = [range[0] + last[0], range[1]];
    if (range.length === 2) {
      const [low, high] = [range[0].trim() ? number(range[0], columns[column]) : -Infinity, range[1].trim() ? number(range[1], columns[column]) : Infinity];
      // Percent signs and prefixes are not exact in floating point.
      const near = v => 1e-9 * Math.abs(v);
      return low === null || high === null ? null : r => cell(r, column) !== null && cell(r, column) + near(cell(r, column)) >= low && cell(r, column) - near(cell(r, column)) <= high;
    }
    const found = /^(<=|>=|<|>|=)?(.*)$/.exec(words), value = number(found[2], columns[column]);
    if (value === null) return null;
    const same = v => Math.abs(v - value) <= 1e-9 * Math.max(Math.abs(v), Math.abs(value));
    const test = {'<': v => v < value && !same(v), '<=': v => v < value || same(v), '>': v => v > value && !same(v), '>=': v => v > value || same(v)}[found[1]] || same;
    return r => cell(r, column) !== null && test(cell(r, column));
  }

  const count = make('span', {id: 'count', 'aria-live': 'polite'}), fields = [];
  function thin() {
    const tests = fields.map((field, c) => {
      const test = asked(c, field.value);
      if (test) field.removeAttribute('aria-invalid'); else field.setAttribute('aria-invalid', 'true');
      return field.value.trim() ? test : null;
    }).filter(Boolean);
    const left = all.filter(r => tests.every(test => test(r)));
    const kept = new Set(left);
    lines.forEach((line, r) => { line.hidden = !kept.has(r); });
    count.textContent = left.length === rows.length ? rows.length + (rows.length === 1 ? ' recipe' : ' recipes') : left.length + ' of ' + rows.length + ' recipes';
    clear.hidden = !tests.length;
    show(left);
  }
  let waiting;
  const later = () => { clearTimeout(waiting); waiting = setTimeout(thin, 120); };
  const clear = make('button', {type: 'button', hidden: true, on: {click: () => { fields.forEach(f => { f.value = ''; }); thin(); }}}, 'Clear filters');
  const head = table.tHead.insertRow();
  head.className = 'filters';
  columns.forEach((column, c) => {
    const example = numeric[c] ? {percent: column.better === 'higher' ? '> 90%' : '< 1%', bytes: '< 64K', joules: '< 10µ', seconds: '< 1ms'}[column.scale] || '1..9' : 'holds';
    const field = make('input', {type: 'search', placeholder: example, 'aria-label': 'Filter by ' + column.name, on: {input: later}});
    field.size = 8;
    fields.push(field);
    const place = make('td', {}, field);
    if (numeric[c]) place.className = 'n';
    head.append(place);
  });

  // Columns are hidden by rules, whatever order the rows have.
  function columnsShown() {
    hidden.textContent = columns.map((c, i) => c.shown ? '' : '#recipes tr>:nth-child(' + (i + 1) + '){display:none}').join('');
    redraw();
  }
  const groups = [['about', 'Which it is'], ['recipe', 'What was chosen'], ['figure', 'What came of it']].map(([kind, name]) => {
    const boxes = columns.map((column, c) => column.kind !== kind ? null : make('label', {},
      make('input', {type: 'checkbox', checked: column.shown, on: {change: event => { columns[c].shown = event.target.checked; columnsShown(); }}}), ' ' + column.name)).filter(Boolean);
    return boxes.length ? make('fieldset', {}, make('legend', {}, name), ...boxes) : null;
  }).filter(Boolean);
  bar.append(count, clear, make('details', {className: 'columns'}, make('summary', {}, 'Columns'), make('div', {}, ...groups)));
  bar.hidden = false;

  // What was chosen and filtered outlives a look at another page, and a page that is loaded again.
  const kept = 'sinter ' + location.pathname, choices = () => [...bar.querySelectorAll('input'), ...fields, ...document.querySelectorAll('#live select')];
  const named = e => [e.closest('section').querySelector('h2')?.textContent, e.getAttribute('aria-label') || e.parentElement.firstChild.textContent, e.parentElement.textContent.length < 80 && e.type === 'checkbox' ? e.parentElement.textContent : ''].join('|');
  function keep() {
    const values = Object.fromEntries(choices().map(e => [named(e), e.type === 'checkbox' ? e.checked : e.tagName === 'SELECT' ? e.selectedOptions[0]?.textContent : e.value]));
    try { sessionStorage.setItem(kept, JSON.stringify({values, scroll: scrollY})); } catch { /* Without a place to keep it nothing is kept. */ }
  }
  function recall() {
    let found = null;
    try { found = JSON.parse(sessionStorage.getItem(kept)); } catch { /* The same. */ }
    if (!found) return;
    for (const e of choices()) {
      const value = found.values[named(e)];
      if (value === undefined) continue;
      if (e.type === 'checkbox') { if (e.checked !== value) e.click(); } else if (e.tagName !== 'SELECT') e.value = value; else { const option = [...e.options].find(o => o.textContent === value); if (option) e.value = option.value; }
      if (e.closest('#beside')) e.dispatchEvent(new Event('change'));
    }
    requestAnimationFrame(() => scrollTo(0, found.scroll));
  }
  addEventListener('pagehide', keep);

  // Pictures that stand without script give way to those that answer.
  const live = document.getElementById('live'), still = document.getElementById('still');
  live.hidden = false;
  if (still && live.children.length) still.remove();
  recall();
  thin();
  let width = innerWidth;
  addEventListener('resize', () => { if (innerWidth !== width) { width = innerWidth; clearTimeout(waiting); waiting = setTimeout(redraw, 150); } });
})();
