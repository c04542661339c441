// Draws a map of geossl.viz.maps: `map` is Leaflet's, `data` what Python packed. No library but Leaflet.
(function (map, data) {
  "use strict";
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const numbers = (text, Kind) => new Kind(bytes(text).buffer);
  const whole = [[-data.top, -180], [data.top, 180]];
  const el = (tag, words, style) => {
    const made = document.createElement(tag);
    if (words !== undefined) made.textContent = words;
    if (style) made.className = style;
    return made;
  };
  const pane = (name, order) => { map.createPane(name).style.zIndex = order; return name; };
  map.getContainer().setAttribute("role", "region");
  map.getContainer().setAttribute("aria-label", data.alt);
  map.attributionControl.setPrefix("Leaflet");
  map.attributionControl.addAttribution(data.attribution);

  // ------------------------------------------------------------------ base layers and coastlines
  const base = L.featureGroup(), worlds = data.across ? [0, 360] : [0];  // two where places straddle
  pane("world", 150);
  for (const turn of worlds) {
    const box = whole.map(([lat, lon]) => [lat, lon + turn]);
    L.imageOverlay(data.base, box, {pane: "world", alt: ""}).addTo(base);
  }
  base.addTo(map);
  if (data.coast) {
    const flat = numbers(data.coast.points, Int16Array), length = numbers(data.coast.lengths, Uint16Array);
    const lines = [];
    for (const turn of worlds) {
      let at = 0;
      for (const count of length) {
        const line = [];
        for (let i = 0; i < count; i++, at += 2) line.push([flat[at + 1] / 100, flat[at] / 100 + turn]);
        lines.push(line);
      }
    }
    L.polyline(lines, {
      pane: pane("coast", 160), renderer: L.canvas({pane: "coast"}), color: "#2b4250", weight: 0.7,
      opacity: 0.55, interactive: false, smoothFactor: 1.5,
    }).addTo(map);
  }
  if (data.tiles) {
    const note = L.control({position: "topright"});
    note.onAdd = () => {
      const box = el("div", "No network: the built-in base layer is shown.", "geossl-note");
      box.setAttribute("role", "status");
      return box;
    };
    const tiles = L.tileLayer(data.tiles.url, {
      pane: pane("tiles", 155), attribution: data.tiles.attribution, maxZoom: 19,
    });
    tiles.once("tileerror", () => { tiles.remove(); note.addTo(map); });
    tiles.once("load", () => base.eachLayer((image) => image.setOpacity(0)));
    tiles.addTo(map);
  }

  // ------------------------------------------------------------------------------------- popups
  const chips = (strip) => {
    const box = el("div", undefined, "geossl-chips");
    const image = el("img");
    image.src = strip.image;
    image.alt = strip.alt;
    image.width = strip.width;
    box.append(image);
    return box;
  };
  const bars = (histogram) => {
    const box = el("div", undefined, "geossl-bars");
    const most = Math.max(...histogram.map(([, count]) => count), 1);
    for (const [name, count] of histogram) {
      const line = el("div"), bar = el("i");
      bar.style.width = 60 * count / most + "px";
      line.append(el("span", name), bar, el("b", String(count)));
      box.append(line);
    }
    return box;
  };
  const about = (card) => {
    const box = el("div", undefined, "geossl-card");
    if (card.title) box.append(el("h4", card.title));
    if (card.strip) box.append(chips(card.strip));
    for (const [name, value] of card.rows || []) {
      const line = el("div");
      line.append(el("b", name + " "), document.createTextNode(value));
      box.append(line);
    }
    if (card.histogram) box.append(bars(card.histogram));
    return box;
  };
  const popup = {maxWidth: Math.min(320, map.getSize().x - 60), autoPanPadding: [8, 8]};

  // -------------------------------------------------------------------------------------- cells
  const shades = [], marks = [];
  const first = data.highlight === undefined ? null : data.highlight;
  let lit = first;
  const shade = (i) => {
    const on = lit === null || lit === i;
    return {color: on && lit !== null ? "#111" : "#fff", weight: on && lit !== null ? 2 : 1, opacity: 0.85,
            fillColor: on ? data.cells[i].color : data.gray, fillOpacity: on ? 0.5 : 0.28};
  };
  const light = (which) => {
    lit = which;
    shades.forEach((shape, i) => shape.setStyle(shade(i)));
    if (which !== null) shades[which].bringToFront();
    for (const row of map.getContainer().querySelectorAll(".geossl-table tbody tr")) {
      const chosen = Number(row.dataset.cell) === which;
      row.classList.toggle("lit", chosen);
      row.querySelector("button").setAttribute("aria-pressed", chosen);
    }
  };
  const beside = (shape) => {  // a popup opens beside the table, which would cover it
    const table = map.getContainer().querySelector(".geossl-table[open]");
    shape.getPopup().options.autoPanPaddingBottomRight = table && [table.offsetWidth + 20, 8];
  };
  (data.cells || []).forEach((cell, i) => {
    const shape = L.geoJSON(cell.shape, {style: () => shade(i), smoothFactor: 0.5}).addTo(map);
    shape.bindPopup(() => (beside(shape), about(cell.card)), popup);
    shape.on("popupopen", () => light(i));
    shape.on("popupclose", () => light(first));
    shades.push(shape);
    const icon = L.divIcon({className: "geossl-number", html: "", iconSize: [26, 14]});
    const mark = L.marker(cell.at, {icon, interactive: false, keyboard: false}).addTo(map);
    mark.getElement().textContent = i;
    marks.push([mark, cell.at, cell.size]);
  });
  const unclutter = () => {  // the larger cluster keeps its number where two would overlap
    const kept = [];
    for (const [mark, at] of [...marks].sort((a, b) => b[2] - a[2])) {
      const p = map.latLngToContainerPoint(at);
      const free = kept.every((q) => Math.abs(q.x - p.x) > 18 || Math.abs(q.y - p.y) > 12);
      mark.getElement().style.visibility = free ? "" : "hidden";
      if (free) kept.push(p);
    }
  };
  if (marks.length) map.on("zoomend", unclutter);

  // -------------------------------------------------------------------------------------- lines
  for (const line of data.lines || []) {
    L.polyline(line.path, {color: line.color, weight: line.weight, opacity: 0.9, interactive: false})
      .addTo(map);
  }

  // ------------------------------------------------------------------------------------- raster
  const raster = data.raster &&
    L.imageOverlay(data.raster.image, whole, {pane: pane("raster", 350), className: "geossl-raster"});

  // ------------------------------------------------------------------------------------- points
  const points = (given) => {
    const place = numbers(given.place, Float32Array), count = place.length / 2;
    const columns = given.columns.map((c) => ({
      name: c.name, words: c.words, unit: c.unit || "", whole: c.type !== "f4",
      values: numbers(c.values, {u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array}[c.type]),
    }));
    const value = (c, i) => c.words ? c.words[c.values[i]] : c.whole ? c.values[i] + c.unit
      : Number.isFinite(c.values[i]) ? String(Number(c.values[i].toPrecision(4))) + c.unit : "no value";
    const lon = (i) => place[2 * i] > 180 ? place[2 * i] - 360 : place[2 * i];
    const card = (i) => ({
      strip: given.strips && given.strips[i],
      rows: [...columns.map((c) => [c.name, value(c, i)]),
             ["lon, lat", lon(i).toFixed(3) + ", " + place[2 * i + 1].toFixed(3)]],
    });
    const paint = numbers(given.color, Uint8Array);
    const color = (i) => given.palette ? given.palette[paint[i]]
      : `rgb(${paint[3 * i]},${paint[3 * i + 1]},${paint[3 * i + 2]})`;
    const radius = () => given.radius + Math.max(0, Math.min(6, 0.8 * (map.getZoom() - 2)));
    const spot = (i) => L.latLng(place[2 * i + 1], place[2 * i]);
    const open = (i) => L.popup(popup).setLatLng(spot(i)).setContent(about(card(i))).openOn(map);

    if (given.single) {  // each a mark of its own: hover, click, tab and enter
      const group = L.featureGroup().addTo(map), large = new Set(given.large || []);
      const size = (i) => (large.has(i) ? 1.9 : 1) * radius();
      for (let i = 0; i < count; i++) {
        const mark = L.circleMarker(spot(i), {
          radius: size(i), weight: 1, color: "#fff", fillColor: color(i), fillOpacity: 0.95,
        });
        mark.bindPopup(() => about(card(i)), popup);
        if (columns.length) mark.bindTooltip(() => el("span", value(columns[0], i)));
        mark.addTo(group);
        const path = mark.getElement();
        path.setAttribute("tabindex", "0");
        path.setAttribute("role", "button");
        path.setAttribute("aria-label", columns.map((c) => `${c.name} ${value(c, i)}`).join(", "));
        path.addEventListener("keydown", (event) => { if (event.key === "Enter") mark.openPopup(); });
      }
      map.on("zoomend", () => {
        let i = 0;
        group.eachLayer((mark) => mark.setRadius(size(i++)));
      });
      return;
    }

    const x = new Float64Array(count), y = new Float64Array(count);
    const turn = Math.PI / 180;
    for (let i = 0; i < count; i++) {  // pixels at zoom 0 of the Web Mercator square
      const lat = Math.max(-data.top, Math.min(data.top, place[2 * i + 1])) * turn;
      x[i] = 256 * (place[2 * i] + 180) / 360;
      y[i] = 128 * (1 - Math.asinh(Math.tan(lat)) / Math.PI);
    }
    const key = given.palette ? (i) => paint[i]
      : (i) => paint[3 * i] << 16 | paint[3 * i + 1] << 8 | paint[3 * i + 2];
    const Dots = L.Layer.extend({
      onAdd: function () {
        this.canvas = L.DomUtil.create("canvas", "leaflet-zoom-hide", map.getPane("overlayPane"));
        this.canvas.setAttribute("role", "img");
        this.canvas.setAttribute("aria-label", data.alt);
        map.on("moveend zoomend resize", this.draw, this);
        this.draw();
      },
      onRemove: function () {
        map.off("moveend zoomend resize", this.draw, this);
        this.canvas.remove();
      },
      draw: function () {
        const size = map.getSize(), ratio = window.devicePixelRatio || 1, canvas = this.canvas;
        canvas.width = size.x * ratio; canvas.height = size.y * ratio;
        canvas.style.width = size.x + "px"; canvas.style.height = size.y + "px";
        L.DomUtil.setPosition(canvas, map.containerPointToLayerPoint([0, 0]));
        const pen = canvas.getContext("2d"), scale = Math.pow(2, map.getZoom());
        pen.scale(ratio, ratio);
        const corner = map.getPixelBounds().min, r = radius(), small = r < 2.6 || count > 20000;
        let before = -1;
        for (let i = 0; i < count; i++) {
          const px = x[i] * scale - corner.x, py = y[i] * scale - corner.y;
          if (px < -r || py < -r || px > size.x + r || py > size.y + r) continue;
          const now = key(i);
          if (now !== before) { pen.fillStyle = color(i); before = now; }
          if (small) pen.fillRect(px - r, py - r, 2 * r, 2 * r);
          else { pen.beginPath(); pen.arc(px, py, r, 0, 7); pen.fill(); }
        }
        map.getContainer().dataset.drawn = String(performance.now());
      },
    });
    const dots = new Dots();
    if (raster) {  // the whole from afar, a sample of points from near
      const choose = () => {
        const near = map.getZoom() >= data.raster.until;
        if (near) { raster.remove(); dots.addTo(map); } else { dots.remove(); raster.addTo(map); }
      };
      map.on("zoomend", choose);
      map.whenReady(choose);
    } else dots.addTo(map);
    map.on("click", (event) => {
      if (!map.hasLayer(dots)) return;
      const scale = Math.pow(2, map.getZoom());
      const p = L.CRS.EPSG3857.latLngToPoint(event.latlng, 0);
      let best = -1, least = Math.pow(radius() + 6, 2);
      for (let i = 0; i < count; i++) {
        const d = Math.pow((x[i] - p.x) * scale, 2) + Math.pow((y[i] - p.y) * scale, 2);
        if (d < least) { least = d; best = i; }
      }
      if (best >= 0) open(best);
    });
  };
  if (data.points) points(data.points);
  else if (raster) raster.addTo(map);

  // -------------------------------------------------------------------- legend, caption and table
  if (data.legend) {
    const legend = L.control({position: "bottomleft"});
    legend.onAdd = () => {
      const box = el("div", undefined, "geossl-legend");
      if (data.legend.title) box.append(el("b", data.legend.title));
      for (const [color, name] of data.legend.entries || []) {
        const line = el("div"), dot = el("span");
        dot.style.background = color;
        line.append(dot, document.createTextNode(name));
        box.append(line);
      }
      if (data.legend.ramp) {
        const ramp = el("div", undefined, "geossl-ramp"), ends = el("div", undefined, "geossl-ends");
        ramp.style.background = "linear-gradient(to right, " + data.legend.ramp.join(",") + ")";
        ends.append(el("span", data.legend.low), el("span", data.legend.high));
        box.append(ramp, ends);
      }
      return box;
    };
    legend.addTo(map);
  }
  if (data.caption) {
    const caption = L.control({position: "topright"});
    caption.onAdd = () => el("div", data.caption, "geossl-note");
    caption.addTo(map);
  }
  if (data.table) {
    const panel = L.control({position: "topright"});
    panel.onAdd = () => {
      const box = L.DomUtil.create("details", "geossl-table"), body = el("tbody"), head = el("tr");
      box.open = map.getSize().x > 640;
      box.append(el("summary", data.table.title));
      L.DomEvent.disableClickPropagation(box).disableScrollPropagation(box);
      const rows = data.table.rows.map((cells) => {
        const row = el("tr");
        row.dataset.cell = cells[0];
        cells.forEach((cell, j) => {
          const field = el("td");
          if (j) field.textContent = cell;
          else {
            const button = el("button", String(cell));
            button.setAttribute("aria-pressed", "false");
            button.title = "light this cluster, gray the others";
            button.onclick = () => {
              light(lit === cell ? null : cell);
              if (lit !== null) map.panTo(data.cells[cell].at);
            };
            field.append(button);
          }
          row.append(field);
        });
        return row;
      });
      data.table.columns.forEach((name, j) => {
        const field = el("th"), button = el("button", name);
        let up = false;
        button.title = "sort by " + name;
        button.onclick = () => {
          up = !up;
          const value = (row) => data.table.rows[data.table.rows.findIndex((r) => r[0] === Number(row.dataset.cell))][j];
          rows.sort((a, b) => {
            const [p, q] = [value(a), value(b)];
            const side = typeof p === "number" && typeof q === "number" ? p - q
              : String(p).localeCompare(String(q), undefined, {numeric: true});
            return up ? side : -side;
          });
          body.append(...rows);
          for (const other of head.children) other.removeAttribute("aria-sort");
          field.setAttribute("aria-sort", up ? "ascending" : "descending");
        };
        field.append(button);
        head.append(field);
      });
      body.append(...rows);
      const table = el("table"), top = el("thead"), scroll = el("div");
      top.append(head);
      table.append(top, body);
      scroll.append(table);
      box.append(scroll);
      return box;
    };
    panel.addTo(map);
  }

  // --------------------------------------------------------------------------------------- view
  const look = () => {
    if (data.bounds) map.fitBounds(data.bounds, {padding: [4, 4], animate: false, maxZoom: 17});
    else {  // the whole world, as wide as the map
      map.setView([22, 0], Math.max(0, Math.log2(map.getSize().x / 256)), {animate: false});
    }
    if (marks.length) unclutter();
  };
  look();
  if (!map.getSize().x) map.once("resize", look);  // drawn in a hidden tab
  if (lit !== null && shades.length) light(lit);
})
