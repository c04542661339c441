// Where the selected points are dense in a view: contours, and a name for each dense part.
const CELL_PX = 10, LEVELS = [0.08, 0.2, 0.4, 0.7], MOST_NAMES = 9;

function densityOf(view) {
  const {host, positions} = view, {fails} = host.filters, [sx, sy] = view.scales();
  const wide = Math.ceil(view.width / CELL_PX) + 1, high = Math.ceil(view.height / CELL_PX) + 1;
  const ox = view.width / 2 - view.middle[0] * sx, oy = view.height / 2 + view.middle[1] * sy;
  let grid = new Float32Array(wide * high);
  const cells = new Int32Array(host.rows).fill(-1);
  for (let i = 0; i < host.rows; i++) {
    if (fails[i]) continue;
    const x = Math.floor((ox + positions[2 * i] * sx) / CELL_PX), y = Math.floor((oy - positions[2 * i + 1] * sy) / CELL_PX);
    if (x >= 0 && y >= 0 && x < wide && y < high) { cells[i] = y * wide + x; grid[cells[i]]++; }
  }
  for (let pass = 0; pass < 3; pass++) grid = blurred(blurred(grid, wide, high, 1), wide, high, wide);
  return {grid, wide, high, cells, most: grid.reduce((a, b) => Math.max(a, b), 0)};
}

function blurred(grid, wide, high, step) {  // the mean of three along one axis
  const result = new Float32Array(grid.length), last = step === 1 ? wide - 1 : high - 1;
  for (let at = 0; at < grid.length; at++) {
    const place = step === 1 ? at % wide : Math.floor(at / wide);
    result[at] = (grid[at] * 2 + (place ? grid[at - step] : grid[at]) + (place < last ? grid[at + step] : grid[at])) / 4;
  }
  return result;
}

function drawContours(view, pen) {  // marching squares; the middle of a cell is its sample
  const {grid, wide, high, most} = densityOf(view);
  if (!most) return;
  const at = (x, y) => [(x + 0.5) * CELL_PX, (y + 0.5) * CELL_PX];
  LEVELS.forEach((share, n) => {
    const level = share * most;
    pen.beginPath();
    for (let y = 0; y < high - 1; y++) {
      for (let x = 0; x < wide - 1; x++) {
        const v = [grid[y * wide + x], grid[y * wide + x + 1], grid[(y + 1) * wide + x + 1], grid[(y + 1) * wide + x]];
        const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]], cuts = [];
        for (let k = 0; k < 4; k++) {
          const a = v[k], b = v[(k + 1) % 4], [p, q] = [corners[k], corners[(k + 1) % 4]];
          if (a >= level === b >= level) continue;
          const t = (level - a) / (b - a);
          cuts.push(at(p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])));
        }
        for (let k = 0; k + 1 < cuts.length; k += 2) { pen.moveTo(...cuts[k]); pen.lineTo(...cuts[k + 1]); }
      }
    }
    pen.strokeStyle = view.isMap ? "#123" : view.host.ink;
    pen.globalAlpha = 0.35 + 0.15 * n;
    pen.lineWidth = 1.1;
    pen.stroke();
    pen.globalAlpha = 1;
  });
}

function drawNames(view, pen) {
  const {grid, wide, high, cells, most} = densityOf(view), peaks = [];
  for (let y = 1; y < high - 1; y++) {
    for (let x = 1; x < wide - 1; x++) {
      const v = grid[y * wide + x];
      if (v < 0.06 * most || !v) continue;
      let top = true;
      for (let dy = -1; dy <= 1; dy++) for (let dx = -1; dx <= 1; dx++) if (grid[(y + dy) * wide + x + dx] > v) top = false;
      if (top) peaks.push([v, x, y]);
    }
  }
  peaks.sort((a, b) => b[0] - a[0]);
  const apart = [];
  for (const peak of peaks) {
    if (apart.length < MOST_NAMES && apart.every(([, x, y]) => Math.hypot(peak[1] - x, 2 * (peak[2] - y)) > 9)) apart.push(peak);
  }
  const owner = new Int16Array(wide * high).fill(-1);  // the nearest peak, while it is dense enough
  for (let c = 0; c < owner.length; c++) {
    let least = 8;
    apart.forEach(([v, x, y], k) => {
      const d = Math.hypot(c % wide - x, Math.floor(c / wide) - y);
      if (d < least && grid[c] > 0.25 * v) { least = d; owner[c] = k; }
    });
  }
  pen.font = "600 12px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.lineJoin = "round";
  namesOf(view.host, cells, owner, apart.length).forEach((name, k) => {
    if (!name) return;
    const x = Math.min(view.width - 40, Math.max(40, (apart[k][1] + 0.5) * CELL_PX)), y = Math.max(14, (apart[k][2] + 0.5) * CELL_PX);
    pen.lineWidth = 3.5;
    pen.strokeStyle = view.isMap ? "rgba(255,255,255,.92)" : view.host.paper;
    pen.strokeText(name, x, y);
    pen.fillStyle = view.isMap ? "#111" : view.host.ink;
    pen.fillText(name, x, y);
  });
  pen.textAlign = "start";
}

// The most telling category of each part: p log(p / q), p its share there and q its share in all.
function namesOf(host, cells, owner, parts) {
  const best = Array.from({length: parts}, () => [0, ""]), all = new Float64Array(parts);
  for (let i = 0; i < host.rows; i++) if (cells[i] >= 0 && owner[cells[i]] >= 0) all[owner[cells[i]]]++;
  for (const column of host.filters.columns.filter((c) => c.kind === "category" && c.name !== "split")) {
    const here = new Float64Array(parts * 256), total = new Float64Array(256);
    let shown = 0;
    for (let i = 0; i < host.rows; i++) {
      if (cells[i] < 0) continue;
      shown++;
      total[column.codes[i]]++;
      const k = owner[cells[i]];
      if (k >= 0) here[k * 256 + column.codes[i]]++;
    }
    for (let k = 0; k < parts; k++) {
      column.entries.forEach((entry, code) => {
        if (entry.rest || !all[k] || !total[code]) return;
        const p = here[k * 256 + code] / all[k], q = total[code] / shown, score = p * Math.log(p / q);
        if (p >= 0.35 && p > 1.25 * q && score > best[k][0]) {
          best[k] = [score, entry.text.length < 3 ? `${column.name} ${entry.text}` : entry.text];
        }
      });
    }
  }
  return best.map(([, name]) => (name.length > 28 ? name.slice(0, 27) + "…" : name));
}
