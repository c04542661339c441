// Draws a map of geossl.viz.maps: `map` is a Leaflet map, `data` is packed by Python.
(function (map, data) {
  "use strict";
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const numbers = (text, Kind) => new Kind(bytes(text).buffer);
  const mercator = [[-data.max_lat, -180], [data.max_lat, 180]];
  const el = (tag, words, style) => {
    const node = document.createElement(tag);
    if (words !== undefined) node.textContent = words;
    if (style) node.className = style;
    return node;
  };
  const pane = (name, order) => { map.createPane(name).style.zIndex = order; return name; };
  map.getContainer().setAttribute("role", "region");
  map.getContainer().setAttribute("aria-label", data.alt);
  map.attributionControl.setPrefix("Leaflet");
  map.attributionControl.addAttribution(data.attribution);

  // ------------------------------------------------------------------ base layers and coastlines
  const base = L.featureGroup(), turns = data.across ? [0, 360] : [0];  // two on both sides of 180
  pane("world", 150);
  for (const turn of turns) {
    const box = mercator.map(([lat, lon]) => [lat, lon + turn]);
    L.imageOverlay(data.base, box, {pane: "world", alt: ""}).addTo(base);
  }
  base.addTo(map);
  if (data.coast) {
    const flat = numbers(data.coast.points, Int16Array), length = numbers(data.coast.lengths, Uint16Array);
    const lines = [];
    for (const turn of turns) {
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
  const cardOf = (card) => {
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
  const shapes = [], labels = [];
  const initial = data.highlight === undefined ? null : data.highlight;
  let highlighted = initial;
  const styleOf = (i) => {
    const on = highlighted === null || highlighted === i, strong = on && highlighted !== null;
    return {color: strong ? "#111" : "#fff", weight: strong ? 2 : 1, opacity: 0.85,
            fillColor: on ? data.cells[i].color : data.gray, fillOpacity: on ? 0.5 : 0.28};
  };
  const highlight = (which) => {
    highlighted = which;
    shapes.forEach((shape, i) => shape.setStyle(styleOf(i)));
    if (which !== null) shapes[which].bringToFront();
    for (const row of map.getContainer().querySelectorAll(".geossl-table tbody tr")) {
      const chosen = Number(row.dataset.cell) === which;
      row.classList.toggle("highlighted", chosen);
      row.querySelector("button").setAttribute("aria-pressed", chosen);
    }
  };
  const makeRoom = (shape) => {  // a popup opens next to the table, which would cover it
    const table = map.getContainer().querySelector(".geossl-table[open]");
    shape.getPopup().options.autoPanPaddingBottomRight = table && [table.offsetWidth + 20, 8];
  };
  (data.cells || []).forEach((cell, i) => {
    const shape = L.geoJSON(cell.shape, {style: () => styleOf(i), smoothFactor: 0.5}).addTo(map);
    shape.bindPopup(() => (makeRoom(shape), cardOf(cell.card)), popup);
    shape.on("popupopen", () => highlight(i));
    shape.on("popupclose", () => highlight(initial));
    shapes.push(shape);
    const icon = L.divIcon({className: "geossl-number", html: "", iconSize: [26, 14]});
    const mark = L.marker(cell.center, {icon, interactive: false, keyboard: false}).addTo(map);
    mark.getElement().textContent = i;
    labels.push([mark, cell.center, cell.size]);
  });
  const unclutter = () => {  // the larger cluster keeps its number where two would overlap
    const visible = [];
    for (const [mark, center] of [...labels].sort((a, b) => b[2] - a[2])) {
      const p = map.latLngToContainerPoint(center);
      const free = visible.every((q) => Math.abs(q.x - p.x) > 18 || Math.abs(q.y - p.y) > 12);
      mark.getElement().style.visibility = free ? "" : "hidden";
      if (free) visible.push(p);
    }
  };
  if (labels.length) map.on("zoomend", unclutter);

  // -------------------------------------------------------------------------------------- lines
  for (const line of data.lines || []) {
    L.polyline(line.path, {color: line.color, weight: line.weight, opacity: 0.9, interactive: false})
      .addTo(map);
  }

  // ----------------------------------------------------------------------------------- overview
  const overview = data.overview &&
    L.imageOverlay(data.overview.image, mercator, {pane: pane("overview", 350), className: "geossl-overview"});

  // ------------------------------------------------------------------------------------- points
  const drawPoints = (points) => {
    const lonLat = numbers(points.lon_lat, Float32Array), count = lonLat.length / 2;
    const columns = points.columns.map((c) => ({
      name: c.name, words: c.words, unit: c.unit || "", integer: c.type !== "f4",
      values: numbers(c.values, {u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array}[c.type]),
    }));
    const value = (c, i) => c.words ? c.words[c.values[i]] : c.integer ? c.values[i] + c.unit
      : Number.isFinite(c.values[i]) ? String(Number(c.values[i].toPrecision(4))) + c.unit : "no value";
    const lon = (i) => lonLat[2 * i] > 180 ? lonLat[2 * i] - 360 : lonLat[2 * i];
    const card = (i) => ({
      strip: points.strips && points.strips[i],
      rows: [...columns.map((c) => [c.name, value(c, i)]),
             ["lon, lat", lon(i).toFixed(3) + ", " + lonLat[2 * i + 1].toFixed(3)]],
    });
    const colors = numbers(points.color, Uint8Array);
    const color = (i) => points.palette ? points.palette[colors[i]]
      : `rgb(${colors[3 * i]},${colors[3 * i + 1]},${colors[3 * i + 2]})`;
    const radius = () => points.radius + Math.max(0, Math.min(6, 0.8 * (map.getZoom() - 2)));
    const spot = (i) => L.latLng(lonLat[2 * i + 1], lonLat[2 * i]);
    const open = (i) => L.popup(popup).setLatLng(spot(i)).setContent(cardOf(card(i))).openOn(map);

    if (points.markers) {  // each a marker of its own: hover, click, tab and enter
      const group = L.featureGroup().addTo(map), large = new Set(points.large || []);
      const size = (i) => (large.has(i) ? 1.9 : 1) * radius();
      for (let i = 0; i < count; i++) {
        const mark = L.circleMarker(spot(i), {
          radius: size(i), weight: 1, color: "#fff", fillColor: color(i), fillOpacity: 0.95,
        });
        mark.bindPopup(() => cardOf(card(i)), popup);
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
    const radians = Math.PI / 180;
    for (let i = 0; i < count; i++) {  // pixels at zoom 0 of the Web Mercator square
      const lat = Math.max(-data.max_lat, Math.min(data.max_lat, lonLat[2 * i + 1])) * radians;
      x[i] = 256 * (lonLat[2 * i] + 180) / 360;
      y[i] = 128 * (1 - Math.asinh(Math.tan(lat)) / Math.PI);
    }
    const key = points.palette ? (i) => colors[i]
      : (i) => colors[3 * i] << 16 | colors[3 * i + 1] << 8 | colors[3 * i + 2];
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
    if (overview) {  // all points from afar, a sample of them from near
      const choose = () => {
        const near = map.getZoom() >= data.overview.max_zoom;
        if (near) { overview.remove(); dots.addTo(map); } else { dots.remove(); overview.addTo(map); }
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
  if (data.points) drawPoints(data.points);
  else if (overview) overview.addTo(map);

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
            button.title = "highlight this cluster and gray out the others";
            button.onclick = () => {
              highlight(highlighted === cell ? null : cell);
              if (highlighted !== null) map.panTo(data.cells[cell].center);
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
  const fit = () => {
    if (data.view) map.fitBounds(data.view, {padding: [4, 4], animate: false, maxZoom: 17});
    else {  // the whole world, as wide as the map
      map.setView([22, 0], Math.max(0, Math.log2(map.getSize().x / 256)), {animate: false});
    }
    if (labels.length) unclutter();
  };
  fit();
  if (!map.getSize().x) map.once("resize", fit);  // drawn in a hidden tab
  if (highlighted !== null && shapes.length) highlight(highlighted);
})
