// The linked views of geossl.viz.widgets: one map and one or two scatters of the same rows. Dragging a box
// or a lasso in any of them sets `selection` (uint32 row numbers as bytes), which all views highlight.
const GRAY = "rgba(120,120,120,.28)";

function numbers(model, name, Kind) {
  const view = model.get(name);
  if (!view || !view.byteLength) return new Kind(0);
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function element(tag, words, parent) {
  const node = document.createElement(tag);
  if (words) node.textContent = words;
  if (parent) parent.append(node);
  return node;
}

class View {
  constructor(host, title, positions, span, isMap) {
    this.host = host;
    this.positions = positions;
    this.span = span;  // [x0, y0, x1, y1] in data units, y up
    this.isMap = isMap;
    this.zoom = 1;
    this.middle = [(span[0] + span[2]) / 2, (span[1] + span[3]) / 2];
    this.start = [...this.middle];
    this.cursor = null;
    this.shape = null;
    const figure = element("figure", "", host.row);
    figure.className = "geossl-view";
    element("figcaption", title, figure);
    this.canvas = element("canvas", "", figure);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", title + ". Drag to select. Keys: arrows move a cursor, " +
      "space starts and ends a box, plus and minus zoom, escape clears.");
    this.bind();
  }
  fit() {
    const width = Math.max(240, Math.floor(this.canvas.parentElement.clientWidth) - 2), ratio = window.devicePixelRatio || 1;
    const height = Math.round(width * (this.isMap ? 0.52 : 0.62));
    if (this.width === width && this.ratio === ratio) return;
    [this.width, this.height, this.ratio] = [width, height, ratio];
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.canvas.style.width = width + "px";
    this.canvas.style.height = height + "px";
  }
  scales() {
    const [x0, y0, x1, y1] = this.span, pad = this.isMap ? 0 : 10;
    let sx = (this.width - 2 * pad) / (x1 - x0), sy = (this.height - 2 * pad) / (y1 - y0);
    if (this.isMap) {  // a degree of longitude of a small area is as short as it is there
      const shrink = x1 - x0 < 90 ? Math.max(1e-4, Math.cos((y0 + y1) * Math.PI / 360)) : 1;
      sy = Math.min(sx / shrink, sy);
      sx = sy * shrink;
    }
    return [sx * this.zoom, sy * this.zoom];
  }
  toPixels(x, y) {
    const [sx, sy] = this.scales();
    return [this.width / 2 + (x - this.middle[0]) * sx, this.height / 2 - (y - this.middle[1]) * sy];
  }
  toData(px, py) {
    const [sx, sy] = this.scales();
    return [this.middle[0] + (px - this.width / 2) / sx, this.middle[1] - (py - this.height / 2) / sy];
  }
  zoomAt(px, py, factor) {
    const before = this.toData(px, py);
    this.zoom = Math.min(4000, Math.max(1, this.zoom * factor));
    const after = this.toData(px, py);
    this.middle = this.zoom === 1 ? [...this.start]
      : [this.middle[0] + before[0] - after[0], this.middle[1] + before[1] - after[1]];
    this.draw();
  }
  draw() {
    this.fit();
    const pen = this.canvas.getContext("2d"), {host, positions} = this;
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    if (this.isMap) this.drawWorld(pen);
    const [sx, sy] = this.scales(), r = (host.count > 20000 ? 1 : host.count > 3000 ? 1.5 : 2.5) + Math.min(3, Math.log2(this.zoom) / 2);
    const ox = this.width / 2 - this.middle[0] * sx, oy = this.height / 2 + this.middle[1] * sy;
    const spot = (i) => {
      const px = ox + positions[2 * i] * sx, py = oy - positions[2 * i + 1] * sy;
      if (px > -r && py > -r && px < this.width + r && py < this.height + r) pen.fillRect(px - r, py - r, 2 * r, 2 * r);
    };
    if (host.any) {
      pen.fillStyle = GRAY;
      for (let i = 0; i < host.count; i++) if (!host.selected[i]) spot(i);
    }
    for (const [code, rows] of host.groups) {
      pen.fillStyle = host.palette[code] || "#b0b0b0";
      for (const i of rows) if (!host.any || host.selected[i]) spot(i);
    }
    pen.strokeStyle = "#111";
    if (this.shape && this.shape.length > 1) {
      pen.beginPath();
      this.shape.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.closePath();
      pen.fillStyle = "rgba(0,114,178,.12)";
      pen.fill();
      pen.stroke();
    }
    if (this.cursor && document.activeElement === this.canvas) {
      const [x, y] = this.cursor;
      pen.beginPath();
      pen.moveTo(x - 9, y); pen.lineTo(x + 9, y); pen.moveTo(x, y - 9); pen.lineTo(x, y + 9);
      pen.stroke();
    }
  }
  drawWorld(pen) {
    const [left, top] = this.toPixels(-180, 90), [right, bottom] = this.toPixels(180, -90);
    pen.fillStyle = "#dfe9ee";
    pen.fillRect(0, 0, this.width, this.height);
    const turn = right - left, far = right - left < 200000;  // nearer, both are a blur
    for (const shift of far ? [-turn, 0, turn] : []) {
      if (left + shift > this.width || right + shift < 0) continue;
      if (this.host.world) pen.drawImage(this.host.world, left + shift, top, right - left, bottom - top);
      this.drawCoast(pen, shift);
    }
    if (this.span[2] - this.span[0] < 90) this.drawScale(pen);
  }
  drawCoast(pen, shift) {
    pen.strokeStyle = "rgba(43,66,80,.6)";
    pen.lineWidth = 0.7;
    pen.beginPath();
    for (const line of this.host.coast) {
      for (let i = 0; i < line.length; i += 2) {
        const [x, y] = this.toPixels(line[i], line[i + 1]);
        i ? pen.lineTo(x + shift, y) : pen.moveTo(x + shift, y);
      }
    }
    pen.stroke();
    pen.lineWidth = 1;
  }
  drawScale(pen) {  // a grid of degrees and a bar of meters
    const [sx, sy] = this.scales(), nice = (least) => {
      const power = Math.pow(10, Math.floor(Math.log10(least)));
      return [1, 2, 5, 10].find((n) => n * power >= least * 0.999) * power;
    };
    pen.strokeStyle = "rgba(43,66,80,.25)";
    pen.fillStyle = "#2b4250";
    pen.font = "10px system-ui, sans-serif";
    pen.lineWidth = 0.7;
    [[sx, this.width, 0], [sy, this.height, 1]].forEach(([scale, px, axis]) => {
      const step = nice(110 / scale), decimals = Math.max(0, -Math.floor(Math.log10(step * 1.0001)));
      const from = axis ? this.toData(0, px)[1] : this.toData(0, 0)[0];
      for (let n = Math.ceil(from / step); n * step <= from + px / scale; n++) {
        const [x, y] = this.toPixels(n * step, n * step), at = axis ? n * step : (n * step + 540) % 360 - 180;
        pen.beginPath();
        if (axis) { pen.moveTo(0, y); pen.lineTo(this.width, y); } else { pen.moveTo(x, 0); pen.lineTo(x, this.height); }
        pen.stroke();
        const side = Math.abs(at) < step / 2 || Math.abs(at) === 180 ? "" : axis ? (at < 0 ? " S" : " N") : (at < 0 ? " W" : " E");
        const words = Math.abs(at).toFixed(decimals) + "°" + side;
        if (axis ? y > 20 && y < px - 24 : x < px - 50) pen.fillText(words, axis ? 3 : x + 3, axis ? y - 3 : 11);
      }
    });
    const km = nice(60 * 111.195 / sy), y = this.height - 8, wide = km / 111.195 * sy;
    pen.fillText(km < 1 ? `${+(km * 1000).toPrecision(3)} m` : `${km} km`, 10, y - 5);
    pen.strokeStyle = "#2b4250";
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(8, y - 4); pen.lineTo(8, y); pen.lineTo(8 + wide, y); pen.lineTo(8 + wide, y - 4);
    pen.stroke();
    pen.lineWidth = 1;
  }
  show(rows) {  // bring them into view
    let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const i of rows) {
      const x = this.positions[2 * i], y = this.positions[2 * i + 1];
      if (!Number.isFinite(x)) continue;
      x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = Math.max(y1, y);
    }
    if (x1 < x0) return;
    this.zoom = 1;
    const [sx, sy] = this.scales(), part = Math.max((x1 - x0) * sx / this.width, (y1 - y0) * sy / this.height);
    this.zoom = Math.min(4000, Math.max(1, 0.8 / Math.max(part, 0.02)));
    this.middle = [(x0 + x1) / 2, (y0 + y1) / 2];
    this.draw();
  }
  bind() {
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const box = (a, b) => [a, [b[0], a[1]], b, [a[0], b[1]]];
    let from = null, middle = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      from = at(event);
      middle = [...this.middle];
      this.canvas.setPointerCapture(event.pointerId);
      this.shape = this.host.mode === "move" ? null : [from];
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = at(event);
      if (this.host.mode === "move") {
        const [sx, sy] = this.scales();
        this.middle = [middle[0] - (to[0] - from[0]) / sx, middle[1] + (to[1] - from[1]) / sy];
      } else if (this.host.mode === "lasso") this.shape.push(to);
      else this.shape = box(from, to);
      this.draw();
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (!from) return;
      const to = at(event), moved = Math.hypot(to[0] - from[0], to[1] - from[1]);
      from = null;
      const shape = this.shape;
      this.shape = null;
      if (this.host.mode === "move") return;
      if (moved < 4 && !(shape && shape.length > 8)) this.selectNearest(to);
      else this.select(shape);
    });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(...at(event), Math.pow(1.0015, -event.deltaY));
    }, {passive: false});
    let corner = null;
    this.canvas.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 50 : 10, move = {
        ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
      }[event.key];
      this.cursor = this.cursor || [this.width / 2, this.height / 2];
      if (move) {
        this.cursor = [Math.min(this.width, Math.max(0, this.cursor[0] + move[0])),
                       Math.min(this.height, Math.max(0, this.cursor[1] + move[1]))];
        if (corner) this.shape = box(corner, this.cursor);
      } else if (event.key === " ") {
        if (corner) { this.select(box(corner, this.cursor)); corner = this.shape = null; }
        else corner = [...this.cursor];
      } else if (event.key === "Enter") this.selectNearest(this.cursor);
      else if (event.key === "Escape") { corner = this.shape = null; this.host.choose([]); }
      else if (event.key === "+" || event.key === "=") this.zoomAt(...this.cursor, 1.5);
      else if (event.key === "-") this.zoomAt(...this.cursor, 1 / 1.5);
      else return;
      event.preventDefault();
      event.stopPropagation();
      this.draw();
    });
    this.canvas.addEventListener("blur", () => this.draw());
  }
  select(shape) {
    const rows = [];
    for (let i = 0; i < this.host.count; i++) {
      const [x, y] = this.toPixels(this.positions[2 * i], this.positions[2 * i + 1]);
      let inside = false;  // even-odd rule
      for (let a = 0, b = shape.length - 1; a < shape.length; b = a++) {
        const [x1, y1] = shape[a], [x2, y2] = shape[b];
        if (y1 > y !== y2 > y && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) inside = !inside;
      }
      if (inside) rows.push(i);
    }
    this.host.choose(rows);
  }
  selectNearest([px, py]) {
    let best = -1, least = 144;
    for (let i = 0; i < this.host.count; i++) {
      const [x, y] = this.toPixels(this.positions[2 * i], this.positions[2 * i + 1]);
      const d = (x - px) ** 2 + (y - py) ** 2;
      if (d < least) { least = d; best = i; }
    }
    this.host.choose(best < 0 ? [] : [best]);
  }
}

function spanOf(flat) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < flat.length; i += 2) {
    if (!Number.isFinite(flat[i])) continue;
    x0 = Math.min(x0, flat[i]); x1 = Math.max(x1, flat[i]);
    y0 = Math.min(y0, flat[i + 1]); y1 = Math.max(y1, flat[i + 1]);
  }
  return x1 > x0 && y1 > y0 ? [x0, y0, x1, y1] : [x0 - 1 || -1, y0 - 1 || -1, x1 + 1 || 1, y1 + 1 || 1];
}

export default {
  render({model, el}) {
    el.classList.add("geossl-linked");
    const bar = element("div", "", el);
    bar.setAttribute("role", "toolbar");
    const host = {mode: "box", world: null, coast: [], row: element("div", "", el), views: []};
    host.row.className = "geossl-row";
    for (const [mode, words] of [["box", "box"], ["lasso", "lasso"], ["move", "move"]]) {
      const button = element("button", words, bar);
      button.title = {box: "drag a box to select", lasso: "draw around points to select",
                      move: "drag to move, turn the wheel to zoom"}[mode];
      button.setAttribute("aria-pressed", String(mode === host.mode));
      button.onclick = () => {
        host.mode = mode;
        for (const other of bar.children) if (other.hasAttribute("aria-pressed")) other.setAttribute("aria-pressed", String(other === button));
      };
    }
    const clear = element("button", "clear", bar), reset = element("button", "reset view", bar);
    const near = element("button", "zoom to selection", bar);
    near.title = "bring the selected points into view";
    near.onclick = () => { const rows = numbers(model, "selection", Uint32Array); for (const v of host.views) v.show(rows); };
    clear.title = "select nothing";
    reset.title = "undo all zooming";
    clear.onclick = () => host.choose([]);
    reset.onclick = () => { for (const v of host.views) { v.zoom = 1; v.middle = [...v.start]; v.draw(); } };
    const status = element("div", "", el);
    status.setAttribute("role", "status");
    status.className = "geossl-status";

    host.choose = (rows) => {
      model.set("selection", new DataView(Uint32Array.from(rows).buffer));
      model.save_changes();
      updateSelection();
    };
    const redraw = () => { for (const view of host.views) view.draw(); };
    const updateSelection = () => {
      const rows = numbers(model, "selection", Uint32Array);
      host.any = rows.length > 0;
      host.selected = new Uint8Array(host.count);
      for (const i of rows) host.selected[i] = 1;
      status.textContent = host.any ? `${rows.length.toLocaleString("en")} of ${host.count.toLocaleString("en")} selected`
        : `${host.count.toLocaleString("en")} images, none selected`;
      redraw();
    };
    const updateColors = () => {
      const codes = numbers(model, "codes", Uint8Array), groups = new Map();
      host.palette = model.get("palette");
      for (let i = 0; i < codes.length; i++) {
        if (!groups.has(codes[i])) groups.set(codes[i], []);
        groups.get(codes[i]).push(i);
      }
      host.groups = [...groups].sort((a, b) => b[1].length - a[1].length);  // small groups on top
      redraw();
    };
    const build = () => {
      const rest = numbers(model, "place_rest", Float32Array);
      const place = Float64Array.from(numbers(model, "place", Float32Array), (x, i) => x + (rest[i] || 0));
      host.count = place.length / 2;
      host.groups = host.groups || [];
      host.palette = host.palette || [];
      host.row.replaceChildren();
      const titles = model.get("titles"), span = model.get("region");
      host.views = [new View(host, titles[0], place, span, true)];
      for (const [k, name] of ["first", "second"].entries()) {
        const flat = numbers(model, name, Float32Array);
        if (flat.length) host.views.push(new View(host, titles[k + 1], flat, spanOf(flat), false));
      }
      updateSelection();
    };
    const lines = numbers(model, "coast", Float32Array), lengths = numbers(model, "coast_lengths", Uint16Array);
    let from = 0;
    for (const length of lengths) { host.coast.push(lines.subarray(from, from + 2 * length)); from += 2 * length; }
    const image = new Image();
    image.onload = () => { host.world = image; redraw(); };
    image.src = model.get("world");
    model.on("change:selection", updateSelection);
    model.on("change:codes", updateColors);
    model.on("change:first change:second change:titles", build);
    const size = new ResizeObserver(redraw);
    size.observe(el);
    build();
    updateColors();
    return () => size.disconnect();
  },
};
