'use strict';
// Sorts a table by a column when its heading is pressed, and filters its rows. The page is complete without it.
for (const table of document.querySelectorAll('table[data-sort]')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : cell.dataset.v;
  };
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    const isNumber = head.classList.contains('n');
    button.addEventListener('click', () => {
      const ascending = head.getAttribute('aria-sort') !== 'ascending';
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
      const number = (text) => (text === '' ? -1 : Number(text.replaceAll(',', '')));
      const keyed = [...body.rows].map((row) => [isNumber ? number(value(row, column)) : value(row, column), row]);
      keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      if (!ascending) keyed.reverse();
      body.append(...keyed.map(([, row]) => row));
    });
  });
  const input = document.createElement('input');
  input.type = 'search';
  input.placeholder = 'a part of a name, class or reason';
  const label = document.createElement('label');
  label.append('Show only ', input);
  const shown = document.createElement('output');
  const bar = document.createElement('div');
  bar.className = 'filter';
  bar.append(label, shown);
  table.parentElement.before(bar);
  let texts = null;
  input.addEventListener('input', () => {
    texts = texts || new Map([...body.rows].map((row) => [row, row.textContent.toLowerCase()]));
    const wanted = input.value.toLowerCase();
    let count = 0;
    for (const [row, text] of texts) {
      row.hidden = !text.includes(wanted);
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = wanted === '' ? '' : count.toLocaleString('en') + ' of ' + texts.size.toLocaleString('en');
  });
}
