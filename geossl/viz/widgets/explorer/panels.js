// One panel a column: categories are a legend whose rows filter, numbers and dates a histogram to
// brush. Each shows all rows in gray, and in color those that the other filters let through.
const BAR_HEIGHT = 64;

class Panel {
  constructor(host, column, parent) {
    Object.assign(this, {host, column});
    this.root = element("section", "", parent, "geossl-panel");
    this.root.setAttribute("aria-label", column.name);
    const head = element("header", "", this.root);
    element("b", column.name, head);
    this.note = element("span", "", head, "geossl-faint");
    this.tools = element("span", "", head, "geossl-tools");
    const all = element("button", "all", this.tools);
    all.title = `remove the filter of ${column.name}`;
    all.onclick = () => host.allow(this.column, null);
    this.all = all;
    this.total = new Uint32Array(256);
    for (let i = 0; i < host.rows; i++) this.total[column.codes[i]]++;
    if (column.kind === "category") this.list();
    else this.histogram();
  }
  list() {
    const box = element("div", "", this.root, "geossl-list"), {column, host} = this;
    this.bars = column.entries.map((entry, code) => {
      const row = element("button", "", box, "geossl-entry");
      this.swatch = element("i", "", row);
      this.swatch.style.background = entry.color;
      element("span", entry.text, row, entry.rest ? "geossl-faint" : "");
      const number = element("small", "", row), bar = element("u", "", row);
      bar.style.background = entry.color;
      row.onclick = () => {
        const codes = new Set(this.column.allowed || []);
        codes.has(code) ? codes.delete(code) : codes.add(code);
        host.allow(this.column, codes);
      };
      return {row, number, bar, code};
    });
  }
  histogram() {
    const {column, host} = this;
    this.canvas = element("canvas", "", this.root);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", `${column.name} from ${column.edges[0]} to ${column.edges.at(-1)}. Drag to filter. ` +
      "Keys: left and right move the window, with shift they widen it, escape removes it.");
    const ends = element("div", "", this.root, "geossl-ends geossl-faint");
    element("span", column.edges[0], ends);
    element("span", column.edges.at(-1), ends);
    if (column.kind === "date") this.player();
    let from = null;
    const bin = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return Math.min(this.bins - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * this.bins)));
    };
    this.canvas.addEventListener("pointerdown", (event) => { from = bin(event); this.canvas.setPointerCapture(event.pointerId); this.stop(); });
    this.canvas.addEventListener("pointermove", (event) => { if (from !== null) this.range(from, bin(event)); });
    this.canvas.addEventListener("pointerup", (event) => {
      if (from === bin(event) && this.window && this.window[0] === from && this.window[1] === from) host.allow(this.column, null);
      else if (from !== null) this.range(from, bin(event));
      from = null;
    });
    this.canvas.addEventListener("keydown", (event) => {
      const move = {ArrowLeft: -1, ArrowRight: 1}[event.key], [a, b] = this.window || [0, 0];
      if (event.key === "Escape") host.allow(this.column, null);
      else if (!move) return;
      else if (event.shiftKey) this.range(a, Math.max(a, Math.min(this.bins - 1, b + move)));
      else if (!this.window) this.range(0, Math.max(0, Math.ceil(this.bins / 8) - 1));
      else this.shift(move);
      event.preventDefault();
      event.stopPropagation();
    });
  }
  get bins() { return this.column.edges.length - 1; }
  get window() {
    const {allowed} = this.column;
    return allowed ? [Math.min(...allowed), Math.max(...allowed)] : null;
  }
  range(a, b) {
    const codes = new Set();
    for (let k = Math.min(a, b); k <= Math.max(a, b); k++) codes.add(k);
    this.host.allow(this.column, codes);
  }
  shift(by) {
    const [a, b] = this.window, wide = b - a;
    const start = a + by < 0 ? 0 : Math.min(a + by, this.bins - 1 - wide);
    this.range(start, start + wide);
  }
  player() {  // a window that moves over the dates
    const button = element("button", "▶ play", this.tools);
    button.title = "move a window over the dates";
    this.stop = () => { clearInterval(this.timer); this.timer = null; button.textContent = "▶ play"; };
    button.onclick = () => {
      if (this.timer) { this.stop(); return; }
      button.textContent = "❚❚ pause";
      const wide = this.window ? this.window[1] - this.window[0] : Math.max(0, Math.ceil(this.bins / 12) - 1);
      let at = this.window ? this.window[0] : -1;
      if (wide >= this.bins - 1) at = -1;
      this.timer = setInterval(() => {
        if (!this.root.isConnected) { this.stop(); return; }
        for (let k = 0; k < this.bins; k++) {  // windows without any image are skipped
          at = at + 1 > this.bins - 1 - wide ? 0 : at + 1;
          if (this.total.subarray(at, at + wide + 1).some((n) => n)) break;
        }
        this.range(at, at + wide);
      }, 450);
    };
  }
  stop() {}
  update(counts) {
    const {column, host} = this, {allowed} = column, isColor = host.colors.name === column.name;
    this.all.style.visibility = allowed ? "" : "hidden";
    this.root.classList.toggle("geossl-filtering", Boolean(allowed));
    this.root.classList.toggle("geossl-coloring", isColor);
    if (column.kind === "category") {
      this.note.textContent = allowed ? "" : `${column.distinct} value${column.distinct === 1 ? "" : "s"}`;
      const most = Math.max(1, ...this.bars.map(({code}) => this.total[code]));
      for (const {row, number, bar, code} of this.bars) {
        number.textContent = count(counts[code]);
        row.title = `${column.entries[code].text}: ${count(counts[code])} of ${count(this.total[code])}. Click to show only these; choose more to add them.`;
        bar.style.width = `${100 * counts[code] / most}%`;
        row.setAttribute("aria-pressed", String(Boolean(allowed && allowed.has(code))));
        row.classList.toggle("geossl-off", Boolean(allowed && !allowed.has(code)));
      }
      return;
    }
    const {window: span, bins} = this, missing = this.total[255];
    this.note.textContent = span ? `${column.edges[span[0]]} to ${column.edges[span[1] + 1]}`
      : missing ? `${count(missing)} without` : "";
    const ratio = globalThis.devicePixelRatio || 1, wide = Math.max(80, this.root.clientWidth - 18);
    this.canvas.width = wide * ratio;
    this.canvas.height = BAR_HEIGHT * ratio;
    this.canvas.style.width = wide + "px";
    this.canvas.style.height = BAR_HEIGHT + "px";
    const pen = this.canvas.getContext("2d"), most = Math.max(1, ...this.total.subarray(0, bins)), step = wide / bins;
    pen.scale(ratio, ratio);
    const height = (n) => (n ? Math.max(1.5, (BAR_HEIGHT - 4) * n / most) : 0);
    for (let k = 0; k < bins; k++) {
      const x = k * step, w = Math.max(1, step - (step > 3 ? 1 : 0)), all = height(this.total[k]), here = height(counts[k]);
      pen.fillStyle = "rgba(128,128,128,.3)";
      pen.fillRect(x, BAR_HEIGHT - all, w, all);
      const off = allowed && !allowed.has(k);
      pen.fillStyle = off ? "rgba(128,128,128,.45)" : isColor ? column.palette[k] : "#0072b2";
      pen.fillRect(x, BAR_HEIGHT - here, w, here);
    }
    if (span) {
      pen.strokeStyle = host.ink;
      pen.strokeRect(span[0] * step + 0.5, 0.5, Math.max(2, (span[1] + 1 - span[0]) * step - 1), BAR_HEIGHT - 1);
    }
  }
}
