// A map or a scatter on one canvas. Points are written straight into pixels: a million take some
// 15 ms a frame on one core, and need no graphics card, which rooms of virtual machines lack.
const DIM = 0x38808080, DEEPEST = 4000;

// Rows that fail, in gray, or rows that pass, in their colors. Positions that are not known are NaN.
function paintSquares({positions, fails, rows, order, codes, palette, pixels, side, sx, sy, wide, high, ox, oy}, dim) {
  const right = wide - side, bottom = high - side, step = wide - side;
  for (let k = 0; k < rows; k++) {
    const i = order ? order[k] : k;
    if ((fails[i] !== 0) !== dim) continue;
    const x = ox + positions[2 * i] * sx, y = oy - positions[2 * i + 1] * sy;
    if (!(x >= 0 && y >= 0 && x <= right && y <= bottom)) continue;
    const color = dim ? DIM : palette[codes[i]];
    let at = (y | 0) * wide + (x | 0);
    if (side === 1) { pixels[at] = color; continue; }
    for (let v = 0; v < side; v++, at += step) for (let u = 0; u < side; u++) pixels[at++] = color;
  }
}

function paintDiscs({positions, fails, rows, order, codes, palette, pixels, side, sx, sy, wide, high, ox, oy}, dim) {
  const middle = (side - 1) / 2, kinds = new Uint8Array(side * side);  // 0 outside, 1 inside, 2 the rim
  for (let k = 0; k < side * side; k++) {
    const far = Math.hypot(k % side - middle, Math.floor(k / side) - middle);
    kinds[k] = far > side / 2 ? 0 : side > 5 && far > side / 2 - 1 ? 2 : 1;  // with a rim, neighbors stay apart
  }
  for (let k = 0; k < rows; k++) {
    const i = order ? order[k] : k;
    if ((fails[i] !== 0) !== dim) continue;
    const x = Math.floor(ox + positions[2 * i] * sx), y = Math.floor(oy - positions[2 * i + 1] * sy);
    if (!(x > -side && y > -side && x < wide && y < high)) continue;
    const color = dim ? DIM : palette[codes[i]], rim = dim ? DIM : 0xd0ffffff;
    for (let v = Math.max(0, -y); v < side && y + v < high; v++) {
      for (let u = Math.max(0, -x); u < side && x + u < wide; u++) {
        const kind = kinds[v * side + u];
        if (kind) pixels[(y + v) * wide + x + u] = kind === 1 ? color : rim;
      }
    }
  }
}

class View {
  constructor(host, title, positions, span, isMap) {
    Object.assign(this, {host, positions, span, isMap, title, zoom: 1, cursor: null, shape: null});
    this.middle = [(span[0] + span[2]) / 2, (span[1] + span[3]) / 2];
    this.start = [...this.middle];
    const figure = element("figure", "", host.row, "geossl-view");
    this.caption = element("figcaption", title, figure);
    this.canvas = element("canvas", "", figure);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", title + ". Drag to select. Keys: arrows move a cursor, " +
      "space starts and ends a box, enter selects the nearest, plus and minus zoom, escape clears.");
    this.layer = document.createElement("canvas");
    bindPointer(this);
    bindKeys(this);
  }
  fit() {
    const figure = this.canvas.parentElement, ratio = window.devicePixelRatio || 1;
    const width = Math.max(220, Math.floor(figure.clientWidth) - 2);
    const height = Math.round(Math.min(width * 0.56, 560));
    if (this.width === width && this.height === height && this.ratio === ratio) return;
    Object.assign(this, {width, height, ratio});
    for (const canvas of [this.canvas, this.layer]) [canvas.width, canvas.height] = [width * ratio, height * ratio];
    this.canvas.style.height = height + "px";
    this.canvas.style.width = width + "px";
    this.image = this.layer.getContext("2d").createImageData(this.layer.width, this.layer.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }
  scales() {
    const [x0, y0, x1, y1] = this.span, pad = this.isMap ? 8 : 12;
    let sx = (this.width - 2 * pad) / (x1 - x0), sy = (this.height - 2 * pad) / (y1 - y0);
    if (this.isMap) {  // all of the box is visible; a degree of longitude of a small area is as short as it is there
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
    this.zoom = Math.min(DEEPEST, Math.max(1, this.zoom * factor));
    const after = this.toData(px, py);
    this.middle = this.zoom === 1 ? [...this.start]
      : [this.middle[0] + before[0] - after[0], this.middle[1] + before[1] - after[1]];
    this.drawSoon();
  }
  reset() { this.zoom = 1; this.middle = [...this.start]; this.drawSoon(); }
  drawSoon() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
  }
  radius() {
    const n = this.host.rows;
    return (n > 200000 ? 0.75 : n > 20000 ? 1 : n > 5000 ? 1.6 : n > 1000 ? 2.6 : 3.5) + Math.min(3, Math.log2(this.zoom) / 2);
  }
  draw() {
    this.fit();
    const pen = this.canvas.getContext("2d"), {host} = this;
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    if (this.isMap) { drawWorld(this, pen); drawScenes(this, pen); }
    this.drawPoints();
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(this.layer, 0, 0);
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (this.isMap) drawFootprints(this, pen);
    if (host.density.contours) drawContours(this, pen);
    if (host.density.names) drawNames(this, pen);
    this.drawMarks(pen);
    this.drawShape(pen);
    if (this.isMap && this.span[2] - this.span[0] < 90) drawScale(this, pen);
  }
  drawPoints() {
    const {host, pixels} = this, {codes, palette, order} = host.colors;
    const [sx, sy] = this.scales().map((s) => s * this.ratio), side = Math.max(1, Math.round(2 * this.radius() * this.ratio));
    const spots = {
      positions: this.positions, fails: host.filters.fails, rows: host.rows, order, codes, palette, pixels, side, sx, sy,
      wide: this.layer.width, high: this.layer.height,
      ox: this.layer.width / 2 - this.middle[0] * sx - side / 2, oy: this.layer.height / 2 + this.middle[1] * sy - side / 2,
    }, paint = side > 3 ? paintDiscs : paintSquares;
    pixels.fill(0);
    if (host.filters.any) paint(spots, true);
    paint(spots, false);
    this.layer.getContext("2d").putImageData(this.image, 0, 0);
  }
  drawMarks(pen) {  // rings around the answer to a search, and the path of one place through its dates
    const {host} = this, spot = (i) => this.toPixels(this.positions[2 * i], this.positions[2 * i + 1]);
    const ring = (i, r, color) => {
      const [x, y] = spot(i);
      for (const [style, width] of [["#fff", 4], [color, 2]]) {
        pen.strokeStyle = style; pen.lineWidth = width;
        pen.beginPath(); pen.arc(x, y, r, 0, 2 * Math.PI); pen.stroke();
      }
    };
    const path = this.isMap ? [] : host.path;
    for (const [style, width] of [["#fff", 4], ["#111", 1.6]]) {
      pen.strokeStyle = style; pen.lineWidth = width;
      pen.beginPath();
      path.forEach((i, k) => { const [x, y] = spot(i); k ? pen.lineTo(x, y) : pen.moveTo(x, y); });
      pen.stroke();
    }
    for (const i of path) ring(i, 3.5, "#111");
    for (const i of host.marks) ring(i, 5, "#111");
    const selected = host.few;  // a handful of selected points can be seen among a million
    for (const i of selected) ring(i, this.radius() + 3, "#d55e00");
    if (host.query >= 0) ring(host.query, 8, "#d55e00");
  }
  drawShape(pen) {
    pen.lineWidth = 1;
    pen.strokeStyle = this.host.ink;
    if (this.shape && this.shape.length > 1) {
      pen.beginPath();
      this.shape.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.closePath();
      pen.fillStyle = "rgba(0,114,178,.14)";
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
  show(rows) {  // bring them into view
    const [x0, y0, x1, y1] = spanOf(this.positions, rows);
    if (x1 < x0) return;
    this.zoom = 1;
    const [sx, sy] = this.scales(), part = Math.max((x1 - x0) * sx / this.width, (y1 - y0) * sy / this.height);
    this.zoom = Math.min(DEEPEST, Math.max(1, 0.8 / Math.max(part, 0.02)));
    this.middle = [(x0 + x1) / 2, (y0 + y1) / 2];
    this.drawSoon();
  }
  within(shape) {  // rows inside a polygon in pixels; a box is exact, a lasso to half a pixel
    const rows = [], {positions, host} = this, [sx, sy] = this.scales();
    const ox = this.width / 2 - this.middle[0] * sx, oy = this.height / 2 + this.middle[1] * sy;
    const xs = shape.map((p) => p[0]), ys = shape.map((p) => p[1]);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    let filled = null, wide = 0;
    if (!shape.box) {
      const canvas = document.createElement("canvas");
      wide = canvas.width = Math.ceil(right - left) + 1;
      canvas.height = Math.ceil(bottom - top) + 1;
      const pen = canvas.getContext("2d");
      pen.translate(-left, -top);
      pen.beginPath();
      for (const [x, y] of shape) pen.lineTo(x, y);
      pen.fill("evenodd");
      filled = pen.getImageData(0, 0, wide, canvas.height).data;
    }
    for (let i = 0; i < host.rows; i++) {
      const x = ox + positions[2 * i] * sx, y = oy - positions[2 * i + 1] * sy;
      if (!(x >= left && x <= right && y >= top && y <= bottom)) continue;
      if (filled && filled[4 * (Math.floor(y - top) * wide + Math.floor(x - left)) + 3] < 128) continue;
      rows.push(i);
    }
    return rows;
  }
  nearest([px, py], reach = 12) {
    let best = -1, least = reach * reach;
    const {positions, host} = this, {fails} = host.filters, [sx, sy] = this.scales();
    const ox = this.width / 2 - this.middle[0] * sx - px, oy = this.height / 2 + this.middle[1] * sy - py;
    for (let i = 0; i < host.rows; i++) {
      const d = (ox + positions[2 * i] * sx) ** 2 + (oy - positions[2 * i + 1] * sy) ** 2 + (fails[i] ? 4 : 0);
      if (d < least) { least = d; best = i; }
    }
    return best;
  }
}

function spanOf(flat, rows) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  const see = (i) => {
    const x = flat[2 * i], y = flat[2 * i + 1];
    if (!Number.isFinite(x) || !Number.isFinite(y)) return;
    x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = Math.max(y1, y);
  };
  if (rows) { for (const i of rows) see(i); return [x0, y0, x1, y1]; }
  for (let i = 0; 2 * i < flat.length; i++) see(i);
  if (!(x1 >= x0)) return [-1, -1, 1, 1];
  return [x1 > x0 ? x0 : x0 - 1, y1 > y0 ? y0 : y0 - 1, x1 > x0 ? x1 : x1 + 1, y1 > y0 ? y1 : y1 + 1];
}

const boxOf = (a, b) => Object.assign([a, [b[0], a[1]], b, [a[0], b[1]]], {box: true});

function bindPointer(view) {
  const {canvas, host} = view, fingers = new Map();
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let from = null, middle = null, apart = 0;
  const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" && document.activeElement !== canvas) return;  // the page scrolls until a tap
    fingers.set(event.pointerId, at(event));
    canvas.setPointerCapture(event.pointerId);
    if (fingers.size === 2) { apart = spread(); from = view.shape = null; return; }
    from = at(event);
    middle = [...view.middle];
    view.shape = host.mode === "move" ? null : [from];
    host.hideTip();
  });
  canvas.addEventListener("pointermove", (event) => {
    const to = at(event);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, to);
    if (fingers.size === 2) {
      const now = spread(), [a, b] = [...fingers.values()];
      if (apart) view.zoomAt((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, now / apart);
      apart = now;
      return;
    }
    if (!from) { if (event.pointerType !== "touch") host.hover(view, to); return; }
    if (host.mode === "move") {
      const [sx, sy] = view.scales();
      view.middle = [middle[0] - (to[0] - from[0]) / sx, middle[1] + (to[1] - from[1]) / sy];
    } else if (host.mode === "lasso") view.shape.push(to);
    else view.shape = boxOf(from, to);
    view.drawSoon();
  });
  const up = (event) => {
    fingers.delete(event.pointerId);
    if (!from) return;
    const to = at(event), moved = Math.hypot(to[0] - from[0], to[1] - from[1]), shape = view.shape;
    from = view.shape = null;
    if (moved < 4 && !(shape && shape.length > 8)) host.pick(view.nearest(to));
    else if (host.mode !== "move") host.choose(view.within(shape));
    view.drawSoon();
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", (event) => { fingers.delete(event.pointerId); from = view.shape = null; });
  canvas.addEventListener("pointerleave", () => host.hideTip());
  canvas.addEventListener("focus", () => { canvas.style.touchAction = "none"; });
  canvas.addEventListener("blur", () => { canvas.style.touchAction = ""; view.drawSoon(); });
  canvas.addEventListener("wheel", (event) => {  // the page scrolls on until the view was clicked
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
    event.preventDefault();
    view.zoomAt(...at(event), Math.pow(1.0015, -event.deltaY));
  }, {passive: false});
}

function bindKeys(view) {
  let corner = null;
  view.canvas.addEventListener("keydown", (event) => {
    const {host} = view, step = event.shiftKey ? 50 : 10, move = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    }[event.key];
    view.cursor = view.cursor || [view.width / 2, view.height / 2];
    if (move) {
      view.cursor = [Math.min(view.width, Math.max(0, view.cursor[0] + move[0])),
                     Math.min(view.height, Math.max(0, view.cursor[1] + move[1]))];
      if (corner) view.shape = boxOf(corner, view.cursor);
    } else if (event.key === " ") {
      if (corner) { host.choose(view.within(boxOf(corner, view.cursor))); corner = view.shape = null; }
      else corner = [...view.cursor];
    } else if (event.key === "Enter") host.pick(view.nearest(view.cursor));
    else if (event.key === "Escape") { corner = view.shape = null; host.clear(); }
    else if (event.key === "+" || event.key === "=") view.zoomAt(...view.cursor, 1.5);
    else if (event.key === "-") view.zoomAt(...view.cursor, 1 / 1.5);
    else return;
    event.preventDefault();
    event.stopPropagation();
    view.drawSoon();
  });
}
