// A saved page: the model that a kernel would be. It answers from what the file holds.
function kilometers(lon1, lat1, lon2, lat2) {  // haversine, on a sphere of 6,371 km
  const rad = Math.PI / 180, [a, b] = [lat1 * rad, lat2 * rad], [dy, dx] = [(b - a) / 2, (lon2 - lon1) * rad / 2];
  return 12742.018 * Math.asin(Math.min(1, Math.sqrt(Math.sin(dy) ** 2 + Math.cos(a) * Math.cos(b) * Math.sin(dx) ** 2)));
}

function savedModel({state, buffers}) {
  const unpack = (text) => {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return new DataView(bytes.buffer);
  };
  const packed = {}, listeners = {};
  for (const [name, text] of Object.entries(buffers)) packed[name] = unpack(text);
  const {words} = state, vectors = bytesOf(packed.vectors, Int8Array), dims = vectors.length / words.length;
  const ends = bytesOf(packed.picture_ends, Uint32Array), days = bytesOf(packed.days, Int32Array);
  const place = bytesOf(packed.place, Float32Array);
  const fire = (name, ...values) => (listeners[name] || []).forEach((call) => call(...values));
  let serial = 0;
  const show = (answer) => model.set("answer", {serial: ++serial, query: -1, ...answer});
  const best = (scores, most) => scores.sort((a, b) => b[1] - a[1]).slice(0, most);
  const answers = {
    pictures: ({rows}) => ({rows, words: rows.map((row) => words[row]),
      buffers: rows.map((row) => (ends.length ? packed.pictures.buffer.slice(ends[row], ends[row + 1]) : null))}),
    similar: ({row}) => {
      const when = model.get("dates"), own = new Date(days[row] * 864e5), scores = [];
      for (let i = 0; i < words.length; i++) {
        const date = new Date(days[i] * 864e5), unknown = Math.min(days[i], days[row]) < -1e9;
        if (i === row || unknown && when !== "any date" || when === "the same date" && days[i] !== days[row] || when === "other dates" && days[i] === days[row]) continue;
        if (when.startsWith("the same month") &&
          (date.getUTCMonth() !== own.getUTCMonth() || date.getUTCFullYear() === own.getUTCFullYear())) continue;
        let dot = 0, long = 0, other = 0;
        for (let d = 0; d < dims; d++) {
          const a = vectors[row * dims + d], b = vectors[i * dims + d];
          dot += a * b; long += a * a; other += b * b;
        }
        scores.push([i, dot / Math.sqrt(long * other || 1)]);
      }
      const found = best(scores, 31);
      show({rows: [row, ...found.map(([i]) => i)], captions: ["the chip itself", ...found.map(([, s]) => s.toFixed(2))], query: row,
        note: found.length ? `The ${found.length} images most similar to the first, at ${when}; cosine similarity.` : `There is no other image at ${when}.`});
    },
    search: ({text}) => {
      const wanted = text.toLowerCase(), position = text.match(/^\s*(-?\d*\.?\d+)(?:\s*,\s*|\s+)(-?\d*\.?\d+)\s*$/);
      if (position) {
        const [lat, lon] = position.slice(1).map(Number);
        if (Math.abs(lat) > 90 || Math.abs(lon) > 360) { show({note: `${text} is not on the globe: latitude first, then longitude.`}); return; }
        const scores = words.map((_, i) => [i, -kilometers(lon, lat, place[2 * i], place[2 * i + 1])]);
        const found = best(scores.filter(([, s]) => Number.isFinite(s)), 32);
        show({rows: found.map(([i]) => i), view: found.map(([i]) => i), note: `The images nearest to ${text}.`,
          captions: found.map(([, s]) => `${(-s).toFixed(s > -10 ? 1 : 0)} km`)});
        return;
      }
      const rows = words.flatMap((word, i) => (word.toLowerCase().includes(wanted) ? [i] : [])).slice(0, 32);
      show({rows, view: rows, note: rows.length ? `Images with “${text}” in their words.` : `Nothing here is called “${text}”. Try latitude, longitude.`});
    },
  };
  const model = {
    get: (name) => packed[name] ?? state[name],
    set: (name, value) => { state[name] = value; fire("change:" + name); },
    on: (names, call) => names.split(" ").forEach((name) => (listeners[name] ||= []).push(call)),
    off: () => {}, save_changes: () => {},
    send: ({type, id, ...fields}) => setTimeout(() => {
      const {buffers: found, ...rest} = answers[type]?.(fields) || {};
      fire("msg:custom", {id, ...rest}, found);
    }),
  };
  return model;
}
