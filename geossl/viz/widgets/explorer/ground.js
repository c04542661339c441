// What lies under the points of a map: the world, coasts, a grid with a bar of meters, previews of
// scenes, and chips at their true footprint.
const FOOTPRINT_PX = 18, MOST_FOOTPRINTS = 120;

function drawWorld(view, pen) {
  const [left, top] = view.toPixels(-180, 90), [right, bottom] = view.toPixels(180, -90), {host} = view;
  pen.fillStyle = "#d6e4ec";
  pen.fillRect(0, 0, view.width, view.height);
  const turn = right - left, far = right - left < 200000;  // nearer, both are a blur
  for (const shift of far ? [-turn, 0, turn] : []) {
    if (left + shift > view.width || right + shift < 0) continue;
    if (host.world) pen.drawImage(host.world, left + shift, top, right - left, bottom - top);
    const coast = new Path2D(), [sx, sy] = view.scales();
    coast.addPath(host.coast, new DOMMatrix([sx, 0, 0, sy, (left + right) / 2 + shift, (top + bottom) / 2]));
    pen.strokeStyle = "rgba(43,66,80,.6)";
    pen.lineWidth = 0.7;
    pen.stroke(coast);
  }
}

const mercator = (lat) => Math.asinh(Math.tan(lat * Math.PI / 180)), STRIPS = 24;

function drawScenes(view, pen) {  // of each place the newest scene among the dates that are chosen
  const {host} = view, [from, to] = host.dateWindow(), newest = new Map();
  if (!host.imagery) return;
  for (const scene of host.scenes) {
    if (!(scene.day >= from && scene.day < to) && from > -Infinity) continue;
    const old = newest.get(scene.place);
    if (!old || !(old.day > scene.day)) newest.set(scene.place, scene);
  }
  for (const {bounds: [west, south, east, north], image} of newest.values()) {
    if (!image.complete || !image.naturalWidth) continue;
    for (const turn of [-360, 0, 360]) {
      const [left, top] = view.toPixels(west + turn, north), [right, bottom] = view.toPixels(east + turn, south);
      if (right < 0 || left > view.width || bottom < 0 || top > view.height) continue;
      const wide = Math.max(2, right - left), strips = north - south > 0.5 ? STRIPS : 1;
      for (let k = 0; k < strips; k++) {  // the picture is in Web Mercator, the map is not
        const a = north - (north - south) * k / strips, b = north - (north - south) * (k + 1) / strips;
        const row = (lat) => (mercator(north) - mercator(lat)) / (mercator(north) - mercator(south)) * image.naturalHeight;
        const y = view.toPixels(west, a)[1], high = view.toPixels(west, b)[1] - y;
        pen.drawImage(image, 0, row(a), image.naturalWidth, Math.max(1, row(b) - row(a)), left, y, wide, Math.max(2, high + (strips > 1 ? 0.5 : 0)));
      }
    }
  }
}

function drawFootprints(view, pen) {  // chips as they lie on the ground, once they are large enough to see
  const {host} = view, {corners} = host, {fails} = host.filters;
  if (!corners.length || view.zoom < 2 && host.rows > 500) return;
  const [sx] = view.scales(), newest = new Map();  // of each place the newest that passes
  for (let i = 0; i < host.rows && newest.size <= MOST_FOOTPRINTS; i++) {
    const wide = Math.abs(corners[8 * i + 2] - corners[8 * i]) * sx;  // NaN where it is not known
    if (!(wide >= FOOTPRINT_PX) || fails[i]) continue;
    const [x, y] = view.toPixels(view.positions[2 * i], view.positions[2 * i + 1]);
    if (!(x > -wide && y > -wide && x < view.width + wide && y < view.height + wide)) continue;
    const place = host.locations[i], old = newest.get(place);
    if (old === undefined || host.days[old] <= host.days[i]) newest.set(place, i);
  }
  if (!newest.size || newest.size > MOST_FOOTPRINTS) return;
  const visible = [...newest.values()];
  if (host.query >= 0 && newest.has(host.locations[host.query])) visible.push(host.query);
  const missing = visible.filter((i) => !host.pictures.has(i));
  if (missing.length) host.fetchPictures(missing).then(() => view.drawSoon());
  const spot = (i, k) => view.toPixels(view.positions[2 * i] + corners[8 * i + 2 * k], view.positions[2 * i + 1] + corners[8 * i + 2 * k + 1]);
  for (const i of visible) {
    const [a, b, c, d] = [0, 1, 2, 3].map((k) => spot(i, k)), bitmap = host.pictures.get(i)?.bitmap;
    if (bitmap) {  // the affine map of three corners; the fourth of a chip lies within a pixel of it
      pen.save();
      pen.transform((b[0] - a[0]) / bitmap.width, (b[1] - a[1]) / bitmap.width,
                    (d[0] - a[0]) / bitmap.height, (d[1] - a[1]) / bitmap.height, a[0], a[1]);
      pen.drawImage(bitmap, 0, 0);
      pen.restore();
    }
    pen.strokeStyle = `#${(host.colors.palette[host.colors.codes[i]] & 0xffffff).toString(16).padStart(6, "0").replace(/(..)(..)(..)/, "$3$2$1")}`;
    pen.lineWidth = i === host.query ? 3 : 1.5;
    pen.beginPath();
    for (const [x, y] of [a, b, c, d]) pen.lineTo(x, y);
    pen.closePath();
    pen.stroke();
  }
}

function drawScale(view, pen) {  // a grid of degrees and a bar of meters
  const [sx, sy] = view.scales(), nice = (least) => {
    const power = Math.pow(10, Math.floor(Math.log10(least)));
    return [1, 2, 5, 10].find((n) => n * power >= least * 0.999) * power;
  };
  const write = (text, x, y) => {
    pen.lineWidth = 3;
    pen.strokeStyle = "rgba(255,255,255,.8)";
    pen.strokeText(text, x, y);
    pen.fillText(text, x, y);
  };
  pen.fillStyle = "#2b4250";
  pen.font = "11px system-ui, sans-serif";
  [[sx, view.width, 0], [sy, view.height, 1]].forEach(([scale, px, axis]) => {
    const step = nice(120 / scale), decimals = Math.max(0, -Math.floor(Math.log10(step * 1.0001)));
    const from = axis ? view.toData(0, px)[1] : view.toData(0, 0)[0];
    for (let n = Math.ceil(from / step); n * step <= from + px / scale; n++) {
      const [x, y] = view.toPixels(n * step, n * step), at = axis ? n * step : (n * step + 540) % 360 - 180;
      pen.strokeStyle = "rgba(43,66,80,.2)";
      pen.lineWidth = 0.7;
      pen.beginPath();
      if (axis) { pen.moveTo(0, y); pen.lineTo(view.width, y); } else { pen.moveTo(x, 0); pen.lineTo(x, view.height); }
      pen.stroke();
      const side = Math.abs(at) < step / 2 || Math.abs(at) === 180 ? "" : axis ? (at < 0 ? " S" : " N") : (at < 0 ? " W" : " E");
      const words = Math.abs(at).toFixed(decimals) + "°" + side;
      if (axis ? y > 24 && y < px - 30 : x < px - 56) write(words, axis ? 3 : x + 3, axis ? y - 3 : 12);
    }
  });
  const km = nice(60 * 111.195 / sy), y = view.height - 8, wide = km / 111.195 * sy;
  write(km < 1 ? `${+(km * 1000).toPrecision(3)} m` : `${km} km`, 10, y - 7);
  pen.beginPath();
  pen.moveTo(8, y - 4); pen.lineTo(8, y); pen.lineTo(8 + wide, y); pen.lineTo(8 + wide, y - 4);
  for (const [style, width] of [["rgba(255,255,255,.8)", 4], ["#2b4250", 1.5]]) {
    pen.strokeStyle = style; pen.lineWidth = width; pen.stroke();
  }
}
