// The explorer: one state (filters, a chosen chip, colors) that map, scatters, panels and gallery
// show. Python, or the saved page, answers through the model: pictures, similar places, labels.
const PICTURES = 4000;  // kept for later
const BRUSHING_MS = 90;  // a span is still being dragged

function explore({model, el}) {
  el.classList.add("geossl-explorer");
  const get = (name) => model.get(name);
  const host = {
    mode: "box", world: null, coast: new Path2D(), scenes: [], views: [], panels: [], marks: [], few: [], path: [], query: -1,
    density: {contours: false, names: false}, imagery: true, pictures: new Map(), ink: "#111", paper: "#fff",
  };
  const place = bytesOf(get("place"), Float32Array), rest = bytesOf(get("place_rest"), Float32Array);
  const positions = Float64Array.from(place, (x, i) => x + (rest[i] || 0));
  host.rows = positions.length / 2;
  host.filters = new Filters(host.rows);
  host.corners = bytesOf(get("corners"), Float32Array);
  const locations = host.locations = bytesOf(get("locations"), Int32Array), days = host.days = bytesOf(get("days"), Int32Array);

  // --- the page
  const bar = element("div", "", el, "geossl-bar");
  bar.setAttribute("role", "toolbar");
  host.row = element("div", "", el, "geossl-row");
  const below = element("div", "", el, "geossl-below"), panels = element("div", "", below, "geossl-panels");
  const side = element("div", "", below, "geossl-side");
  const said = element("div", "", el, "geossl-said");
  const credit = element("div", get("credit"), el, "geossl-faint geossl-credit");
  const tip = element("div", "", el, "geossl-tip");
  const gallery = new GalleryView(host, side);

  const group = () => element("span", "", bar, "geossl-group");
  const modes = group();
  for (const [mode, words, title] of [["box", "▭ box", "drag a box to select"], ["lasso", "◌ lasso", "draw around points to select"],
    ["move", "✥ move", "drag to move; the wheel zooms in a view that was clicked, or with Ctrl"]]) {
    const button = element("button", words, modes);
    button.title = title;
    button.setAttribute("aria-label", mode);
    button.setAttribute("aria-pressed", String(mode === host.mode));
    button.onclick = () => {
      host.mode = mode;
      for (const other of modes.children) other.setAttribute("aria-pressed", String(other === button));
    };
  }
  const tools = group();
  const button = (words, title, action, parent = tools) => {
    const node = element("button", words, parent);
    node.title = title;
    node.onclick = action;
    return node;
  };
  button("clear", "select nothing", () => host.clear());
  button("reset view", "undo all zooming", () => host.views.forEach((v) => v.reset()));
  button("zoom to selection", "bring the selected points into view", () => {
    const rows = host.filters.any ? host.filters.selected() : host.query >= 0 ? host.datesOf(host.query) : [];
    host.views.forEach((v) => v.show(rows));
  });
  const select = (words, options, value, action, title) => {
    const label = element("label", words, bar), node = element("select", "", label);
    node.title = title;
    for (const [key, text] of options) { const o = element("option", text, node); o.value = key; }
    node.value = value;
    node.onchange = () => action(node.value);
    return node;
  };
  const colorSelect = select("color by", [], "", (name) => { model.set("color", name); model.save_changes(); }, "what colors the points");
  const can = (name) => Boolean(model.send) && get("abilities").includes(name);
  host.hasPictures = can("pictures");
  let methodSelect = null;
  if (can("project")) {
    methodSelect = select("projection", get("methods"), get("projection"), (m) => { model.set("projection", m); model.save_changes(); },
      "how vectors become two numbers; PCA is fast, t-SNE and UMAP are slow");
  }
  const busy = element("span", "", bar, "geossl-busy"), progress = element("progress", "", busy);
  progress.max = 1;
  button("cancel", "stop, and keep the picture that is shown", () => ask("cancel"), busy);
  if (can("similar")) {
    select("search similar at", get("all_dates").map((d) => [d, d]), get("dates"),
      (d) => { model.set("dates", d); model.save_changes(); }, "dates of the similar images to search");
  }
  const toggles = group();
  for (const [key, words, title] of [["contours", "contours", "lines of equal density of the selected points"],
    ["names", "names", "the most telling value of each dense part"]]) {
    const node = button(words, title, () => {
      host.density[key] = !host.density[key];
      node.setAttribute("aria-pressed", String(host.density[key]));
      redraw();
    }, toggles);
    node.setAttribute("aria-pressed", "false");
  }
  const imageryToggle = button("imagery", "the newest scene of each place, among the dates that are chosen", () => {
    host.imagery = !host.imagery;
    imageryToggle.setAttribute("aria-pressed", String(host.imagery));
    redraw();
  }, toggles);
  imageryToggle.setAttribute("aria-pressed", "true");
  if (can("changed")) button("changed most", "places whose dates differ most, the season taken out", () => ask("changed"), toggles);
  if (can("search")) {
    const find = element("input", "", bar, "geossl-find");
    find.type = "search";
    find.placeholder = can("gazetteer") ? "find a place, lat, lon or a location" : "find lat, lon or a location";
    find.setAttribute("aria-label", find.placeholder);
    find.onkeydown = (event) => { if (event.key === "Enter" && find.value.trim()) ask("search", {text: find.value.trim()}); event.stopPropagation(); };
  }

  const status = element("div", "", bar, "geossl-status");
  status.setAttribute("role", "status");

  // --- questions to Python or the page
  const waiting = new Map(), me = Math.random().toString(36).slice(2);  // a widget may be shown twice
  let number = 0;
  function ask(type, fields = {}, buffers = []) {
    if (!model.send) return Promise.resolve(null);
    const id = `${me} ${++number}`;
    return new Promise((done) => {
      waiting.set(id, done);
      try { model.send({type, id, ...fields}, undefined, buffers); } catch { waiting.delete(id); done(null); }
    });
  }
  model.on("msg:custom", (message, buffers) => {
    waiting.get(message.id)?.({...message, buffers: buffers || []});
    waiting.delete(message.id);
  });
  host.fetchPictures = async (rows) => {
    const missing = [...rows].filter((row) => !host.pictures.has(row));
    if (!missing.length || !can("pictures")) return;
    const answer = await ask("pictures", {rows: missing});
    if (!answer) return;
    if (host.pictures.size > PICTURES) {
      for (const old of host.pictures.values()) if (old.url.startsWith("blob:")) URL.revokeObjectURL(old.url);
      host.pictures.clear();
    }
    await Promise.all(answer.rows.map(async (row, k) => {
      const data = answer.buffers[k], entry = {words: answer.words[k], url: "", bitmap: null};
      if (data && data.byteLength) {
        const blob = new Blob([data], {type: "image/jpeg"});
        entry.url = URL.createObjectURL(blob);
        entry.bitmap = await createImageBitmap(blob);
      }
      host.pictures.set(row, entry);
    }));
  };

  // --- what is selected
  const redraw = () => { for (const view of host.views) view.drawSoon(); };
  let pending = 0;
  const later = () => {  // once a frame while something is dragged
    host.isSettled = false;
    if (pending) return;
    pending = requestAnimationFrame(() => { pending = 0; update(); });
  };
  function update() {
    const counts = host.filters.counts();
    host.panels.forEach((panel) => panel.update(counts[panel.column.bit]));
    redraw();
    host.isSettled = false;
    clearTimeout(host.settling);
    host.settling = setTimeout(settle, host.delay);
    say();
  }
  function say() {
    const n = host.filters.any ? host.filters.selected().length : 0;
    status.textContent = host.filters.any ? `${count(n)} of ${count(host.rows)} selected` : `${count(host.rows)} images, none selected`;
  }
  let sent = "";
  function settle() {  // after the last change: tell Python, and show chips
    const {filters} = host, rows = filters.any ? filters.selected() : new Uint32Array(0);
    host.few = rows.length <= 12 ? [...rows] : [];
    redraw();
    if (host.query < 0 && !host.marks.length) sample(rows);  // the question first, it takes longest
    const key = filters.any ? `${rows.length}:${rows.slice(0, 50)}:${rows.slice(-50)}` : "";
    if (key !== sent || filters.any) {
      sent = key;
      model.set("selected_rows", new DataView(rows.buffer));
      model.save_changes();
    }
    host.isSettled = true;
  }
  function sample(rows) {
    const all = host.filters.any ? rows : Uint32Array.from({length: host.rows}, (_, i) => i);
    let seed = 1;
    const some = new Set();
    if (all.length <= SHOWN) all.forEach((i) => some.add(i));
    while (some.size < Math.min(SHOWN, all.length)) {
      seed = (seed * 48271) % 2147483647;
      some.add(all[seed % all.length]);
    }
    const chosen = [...some].sort((a, b) => a - b);
    const what = host.filters.any ? `${count(rows.length)} selected` : "Nothing is selected; a random sample";
    const empty = host.filters.any && !rows.length;
    gallery.show(chosen, empty ? "No image passes all filters. Remove one with its “all”, or clear."
      : `${what}${all.length > SHOWN ? `, ${SHOWN} shown` : ""}. Click one to see its dates${can("similar") ? " and similar places" : ""}.`);
  }
  host.forget = () => { host.marks = []; host.query = -1; gallery.showPlace(-1); };
  host.choose = (rows) => { host.forget(); host.filters.setRegion(rows); host.delay = 0; later(); };
  host.allow = (column, codes) => { host.forget(); host.delay = BRUSHING_MS; host.filters.allow(column, codes); later(); };
  host.clear = () => { host.forget(); host.filters.clear(); later(); };
  host.pick = (row) => {  // one chip: its place through time, and what is similar
    if (row < 0) { host.choose(null); return; }
    host.query = row;
    host.marks = [];
    model.set("chosen", row);
    model.save_changes();
    gallery.showPlace(row).then(redraw);
    if (can("similar")) ask("similar", {row});
    else gallery.show([row], "The chosen image.");
    redraw();
  };
  host.glance = (row) => { host.few = row < 0 ? [] : [row]; redraw(); };
  host.shown = (rows) => { el.dataset.shown = rows.join(" "); };
  host.datesOf = (row) => {
    const rows = [];
    for (let i = 0; i < host.rows; i++) if (locations[i] === locations[row]) rows.push(i);
    return rows.sort((a, b) => days[a] - days[b]).slice(0, 60);
  };
  host.dateText = (row) => (days[row] > -1e9 ? new Date(days[row] * 864e5).toISOString().slice(0, 10) : "no date");
  host.dateWindow = () => {  // days that the filter of dates lets through
    const column = host.filters.columns.find((c) => c.kind === "date" && c.allowed), day = (text) => Date.parse(text) / 864e5;
    if (!column) return [-Infinity, Infinity];
    return [day(column.edges[Math.min(...column.allowed)]), day(column.edges[Math.max(...column.allowed) + 1])];
  };
  host.labelOf = (row) => {
    const column = host.filters.columns.find((c) => c.name === "my label");
    const entry = column?.entries[column.codes[row]];
    return entry && !entry.rest ? entry.text : "";
  };
  host.hover = (view, to) => {
    clearTimeout(host.hovering);
    host.hideTip();
    host.hovering = setTimeout(async () => {
      const row = view.nearest(to, 8);
      if (row < 0) return;
      await host.fetchPictures([row]);
      const {url = "", words = `row ${row}`} = host.pictures.get(row) || {};
      tip.replaceChildren();
      if (url) element("img", "", tip).src = url;
      element("span", words, tip);
      const box = view.canvas.getBoundingClientRect(), own = el.getBoundingClientRect();
      tip.style.left = Math.min(own.width - 200, box.left - own.left + to[0] + 14) + "px";
      tip.style.top = box.top - own.top + to[1] + 14 + "px";
      tip.style.display = "flex";
    }, 110);
  };
  host.hideTip = () => { clearTimeout(host.hovering); tip.style.display = "none"; };

  // --- colors, columns, views
  const packed = (hex) => {
    const n = parseInt(hex.slice(1), 16);
    return (0xff000000 | (n & 255) << 16 | (n & 0xff00) | n >> 16) >>> 0;
  };
  function updateColors() {
    const name = get("color"), column = host.filters.columns.find((c) => c.name === name);
    const palette = new Uint32Array(256).fill(packed("#b0b0b0"));
    const codes = column ? column.codes : new Uint8Array(host.rows);
    if (!column) palette.fill(packed("#0072b2"));
    else if (column.kind === "category") column.entries.forEach((e, k) => { palette[k] = packed(e.color); });
    else column.palette.forEach((c, k) => { palette[k] = packed(c); });
    host.colors = {name, codes, palette, order: null};
    if (host.rows <= 200000 && column?.kind === "category") {  // small groups on top
      const sizes = new Uint32Array(256);
      for (const c of codes) sizes[c]++;
      host.colors.order = Uint32Array.from(codes, (_, i) => i).sort((a, b) => sizes[codes[b]] - sizes[codes[a]] || a - b);
    }
    colorSelect.value = name;
    el.dataset.color = name;
  }
  function updateColumns() {
    host.filters.setColumns(get("columns"), bytesOf(get("codes"), Uint8Array));
    host.panels.forEach((panel) => panel.stop());
    panels.replaceChildren();
    host.panels = host.filters.columns.map((column) => new Panel(host, column, panels));
    colorSelect.replaceChildren(...host.filters.columns.map((c) => new Option(c.name, c.name)),
      ...(model.send ? get("lazy") : []).map((name) => new Option(name, name)), new Option("one color", ""));
    updateColors();
    update();
  }
  // all positions are float64: one compiled loop paints maps and scatters
  const scatters = () => ["first", "second"].map((name) => Float64Array.from(bytesOf(get(name), Float32Array))).filter((f) => f.length);
  function build() {
    host.row.replaceChildren();
    const titles = get("titles"), [left, bottom, right, top] = get("region");
    host.views = [new View(host, titles[0], positions, [left, bottom, right, top], true)];
    scatters().forEach((flat, k) => host.views.push(new View(host, titles[k + 1], flat, spanOf(flat), false)));
    el.classList.toggle("geossl-three", host.views.length > 2);
    redraw();
  }
  function rescatter() {  // new points, the same views: the map keeps its zoom
    const flats = scatters();
    if (flats.length !== host.views.length - 1) { build(); return; }
    flats.forEach((flat, k) => {
      const view = host.views[k + 1];
      Object.assign(view, {positions: flat, span: spanOf(flat), zoom: 1});
      view.middle = [(view.span[0] + view.span[2]) / 2, (view.span[1] + view.span[3]) / 2];
      view.start = [...view.middle];
    });
    get("titles").forEach((title, k) => { if (host.views[k]) host.views[k].caption.textContent = title; });
    redraw();
  }
  function answer() {  // what Python found: rows with captions
    const {rows = [], captions, note = "", query = -1, view, serial} = get("answer") || {};
    if (!serial) return;
    if (query >= 0 || !rows.length || !host.filters.any) host.query = query;
    host.marks = rows.filter((row) => row !== query);
    if (view) host.views[0].show(view);
    gallery.show(rows, note, captions);
    redraw();
  }
  function updateBusy() {
    const share = get("progress");
    busy.style.display = share < 0 ? "none" : "";
    progress.value = Math.max(0, share);
    if (methodSelect) methodSelect.value = get("projection");
  }
  function updateSaid() {
    said.textContent = get("status");
    said.classList.toggle("geossl-error", get("is_error"));
    said.setAttribute("role", get("is_error") ? "alert" : "status");
  }
  function updateTheme() {
    const style = getComputedStyle(el);
    [host.ink, host.paper] = [style.color, style.getPropertyValue("--geossl-paper").trim() || "#fff"];
    redraw();
  }
  function updateScenes() {
    host.scenes = get("scenes").map(({url, ...scene}) => {
      const image = new Image();
      image.onload = redraw;
      image.src = url;
      return {...scene, image};
    });
    imageryToggle.hidden = !host.scenes.length;
    redraw();
  }
  if (can("label")) labelPanel(host, model, side, ask);
  if (can("image")) dropImage(el, ask);

  const lines = bytesOf(get("coast"), Float32Array), lengths = bytesOf(get("coast_lengths"), Uint16Array);
  let from = 0;
  for (const length of lengths) {
    for (let i = from; i < from + 2 * length; i += 2) i === from ? host.coast.moveTo(lines[i], -lines[i + 1]) : host.coast.lineTo(lines[i], -lines[i + 1]);
    from += 2 * length;
  }
  const world = new Image();
  world.onload = () => { host.world = world; redraw(); };
  world.src = get("world");

  const listen = {
    "change:columns change:codes": () => { clearTimeout(host.renewing); host.renewing = setTimeout(updateColumns, 0); },
    "change:color": () => { updateColors(); update(); },
    "change:first change:second change:titles": rescatter, "change:answer": answer,
    "change:progress change:projection": updateBusy, "change:status change:is_error": updateSaid,
    "change:scenes": updateScenes,
    "change:chosen_by_python": () => {
      const {rows, serial} = get("chosen_by_python");
      if (!serial) return;
      host.forget();
      host.filters.clear();
      host.filters.setRegion(rows.length ? rows : null);
      later();
    },
  };
  for (const [names, call] of Object.entries(listen)) names.split(" ").forEach((name) => model.on(name, call));
  const size = new ResizeObserver(() => update());
  size.observe(el);
  const theme = new MutationObserver(updateTheme);
  theme.observe(document.body, {attributes: true});
  host.colors = {name: "", codes: new Uint8Array(host.rows), palette: new Uint32Array(256)};
  build();
  updateColumns();
  updateBusy();
  updateSaid();
  updateScenes();
  updateTheme();
  answer();
  const still = get("still");
  const hide = () => { for (const node of document.getElementsByClassName(still)) node.hidden = true; };
  if (still) for (const wait of [0, 300, 2000, 8000]) setTimeout(hide, wait);  // it comes after the explorer
  el.geossl = host;  // for tests that read what is drawn
  return () => {
    size.disconnect();
    theme.disconnect();
    host.panels.forEach((panel) => panel.stop());
    for (const {url} of host.pictures.values()) if (url.startsWith("blob:")) URL.revokeObjectURL(url);
  };
}

export default {render: explore};
