// What passes: every column of codes and one region may filter; a row is selected when all agree.
const REGION = 31;

function bytesOf(view, Kind) {
  if (!view || !view.byteLength) return new Kind(0);
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function element(tag, words, parent, className) {
  const node = document.createElement(tag);
  if (words) node.textContent = words;
  if (className) node.className = className;
  if (parent) parent.append(node);
  return node;
}

const count = (n) => n.toLocaleString("en");

class Filters {
  constructor(rows) {
    this.rows = rows;
    this.fails = new Uint32Array(rows);  // bit c: column c rejects the row; bit REGION: the region does
    this.columns = [];
    this.region = null;
  }
  setColumns(columns, codes) {  // codes: one uint8 per row and column, column by column
    const allowed = new Map(this.columns.filter((c) => c.allowed).map((c) => [c.name, c]));
    this.columns = columns.slice(0, REGION).map((column, i) => ({
      ...column, codes: codes.subarray(i * this.rows, (i + 1) * this.rows), allowed: null, bit: i,
    }));
    for (let i = 0; i < this.rows; i++) this.fails[i] &= 1 << REGION;
    for (const column of this.columns) {  // a filter outlives new columns where its meaning does
      const old = allowed.get(column.name);
      if (old && JSON.stringify([old.entries, old.edges]) === JSON.stringify([column.entries, column.edges])) {
        this.allow(column, old.allowed);
      }
    }
  }
  allow(column, codes) {  // codes: a Set, or null for all
    column.allowed = codes && codes.size ? codes : null;
    const bit = 1 << column.bit, {fails} = this, rejects = new Uint8Array(256);
    if (column.allowed) for (let k = 0; k < 256; k++) rejects[k] = column.allowed.has(k) ? 0 : 1;
    for (let i = 0; i < this.rows; i++) fails[i] = rejects[column.codes[i]] ? fails[i] | bit : fails[i] & ~bit;
  }
  setRegion(rows) {  // row numbers, or null for all
    this.region = rows;
    const bit = 1 << REGION, {fails} = this;
    if (!rows) for (let i = 0; i < this.rows; i++) fails[i] &= ~bit;
    else {
      for (let i = 0; i < this.rows; i++) fails[i] |= bit;
      for (const i of rows) fails[i] &= ~bit;
    }
  }
  clear() {
    for (const column of this.columns) column.allowed = null;
    this.region = null;
    this.fails.fill(0);
  }
  get any() { return this.region !== null || this.columns.some((column) => column.allowed); }
  selected() {
    let n = 0;
    for (let i = 0; i < this.rows; i++) if (!this.fails[i]) n++;
    const rows = new Uint32Array(n);
    for (let i = 0, at = 0; i < this.rows; i++) if (!this.fails[i]) rows[at++] = i;
    return rows;
  }
  counts() {  // of each column's codes among the rows that all the other filters let through
    const {fails, rows} = this;
    return this.columns.map(({codes, bit}) => {
      const result = new Uint32Array(256), others = ~(1 << bit);
      for (let i = 0; i < rows; i++) if (!(fails[i] & others)) result[codes[i]]++;
      return result;
    });
  }
}
