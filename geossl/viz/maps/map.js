// Draws a map of geossl.viz.maps: `map` is a Leaflet map, `data` is packed by Python.
(function (map, data) {
  "use strict";
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const numbers = (text, Kind) => new Kind(bytes(text).buffer);
  const bottom = data.shrink ? -90 : -data.max_lat;
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

  if (data.shrink) {  // around a pole: plate carree, degrees of longitude as short as they are there
    const crs = L.CRS.EPSG4326, k = data.shrink;
    map.options.crs = L.extend({}, crs, {transformation: L.transformation(k / 180, k, -1 / 180, 0.5)});
    map.setView([0, 0], 0, {animate: false});
  }
  const project = (lat, lon) => map.options.crs.latLngToPoint(L.latLng(lat, lon), 0);  // at zoom 0
  const worldPx = project(0, 180).x - project(0, -180).x;

  // ------------------------------------------------------------------ base layers and coastlines
  const base = L.featureGroup(), view = data.view || data.bounds;
  const near = [-360, 0, 360].filter((turn) => view[0][1] < 180 + turn && view[1][1] > turn - 180);
  pane("world", 150);
  for (const turn of data.view ? near : [-360, 0, 360]) {
    const box = [[bottom, turn - 180], [-bottom, turn + 180]];
    L.imageOverlay(data.base, box, {pane: "world", alt: ""}).addTo(base);
  }
  if (data.detail) L.imageOverlay(data.detail.image, data.detail.bounds, {pane: "world", alt: ""}).addTo(base);
  base.addTo(map);
  if (data.coast) {
    const flat = numbers(data.coast.points, Int16Array), length = numbers(data.coast.lengths, Uint16Array);
    const lines = [];
    for (const turn of near) {
      let at = 0;
      for (const count of length) {
        const line = [];
        for (let i = 0; i < count; i++, at += 2) line.push([flat[at + 1] / 100, flat[at] / 100 + turn]);
        lines.push(line);
      }
    }
    L.polyline(lines, {
      pane: pane("coast", data.cells ? 410 : 160), renderer: L.canvas({pane: "coast"}), color: "#2b4250", weight: 0.7,
      opacity: 0.55, interactive: false, smoothFactor: 1.5,
    }).addTo(map);
    map.getPane("coast").style.pointerEvents = "none";
  }
  map.on("zoomend", () => {  // near by, both would be a blur, right to some km
    const far = map.getZoom() < 11 ? "" : "none";
    for (const name of ["world", "coast"]) if (map.getPane(name)) map.getPane(name).style.display = far;
  });

  // ---------------------------------------------------------------------------------- graticule
  const graticule = L.layerGroup().addTo(map), grid = pane("graticule", 170);
  map.getPane(grid).style.pointerEvents = "none";
  const drawGraticule = () => {
    graticule.clearLayers();
    const box = map.getBounds(), size = map.getSize();
    if (!size.x || box.getEast() - box.getWest() > 60) return;
    const names = [["° W", "° E"], ["° S", "° N"]], corner = map.getContainer().querySelector(".leaflet-bottom.leaflet-left");
    const lowest = size.y - 12 - corner.offsetHeight;
    [[box.getWest(), box.getEast(), size.x], [box.getSouth(), box.getNorth(), size.y]].forEach(([low, high, px], axis) => {
      const rough = (high - low) * 130 / px, power = Math.pow(10, Math.floor(Math.log10(rough)));
      const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
      const decimals = Math.max(0, -Math.floor(Math.log10(step * 1.0001)));
      for (let n = Math.ceil(low / step); n * step <= high; n++) {
        const at = n * step, line = axis ? [[at, box.getWest()], [at, box.getEast()]] : [[box.getSouth(), at], [box.getNorth(), at]];
        L.polyline(line, {pane: grid, color: "#2b4250", weight: 0.6, opacity: 0.35, interactive: false, noClip: true}).addTo(graticule);
        const shown = axis ? at : (at + 540) % 360 - 180, words = Math.abs(shown).toFixed(decimals) + (Math.abs(shown) > step / 2 && Math.abs(shown) < 180 ? names[axis][Number(shown > 0)] : "°");
        const spot = map.latLngToContainerPoint(line[axis ? 0 : 1]);
        if (axis ? spot.y < 92 || spot.y > lowest : spot.x < 60 || spot.x > size.x - 40) continue;
        const html = el("span", words, axis ? "geossl-degrees side" : "geossl-degrees");
        const icon = L.divIcon({className: "", html, iconSize: [0, 0]});
        L.marker(map.containerPointToLatLng(axis ? [3, spot.y] : [spot.x, 3]), {icon, pane: grid, interactive: false, keyboard: false}).addTo(graticule);
      }
    });
  };
  map.on("moveend resize", drawGraticule);

  if (data.tiles) {
    const note = L.control({position: "topright"});
    note.onAdd = () => {
      const box = el("div", "No network: the built-in base layer is shown.", "geossl-note");
      box.setAttribute("role", "status");
      return box;
    };
    const tiles = L.tileLayer(data.tiles.url, {
      pane: pane("tiles", 155), attribution: data.tiles.attribution, maxZoom: 22, maxNativeZoom: data.tiles.deepest,
    });
    tiles.once("tileerror", () => { tiles.remove(); note.addTo(map); });
    tiles.once("load", () => base.eachLayer((image) => image.setOpacity(0)));
    tiles.addTo(map);
  }

  // ------------------------------------------------------------------------------------ imagery
  const drawImagery = ({scenes}) => {
    pane("imagery", 180);
    map.getPane("imagery").style.pointerEvents = "none";
    const dates = [...new Set(scenes.map((scene) => scene.date).filter(Boolean))].sort();
    const layers = scenes.map(({image, bounds, name}) => (data.view ? near : [0]).map((turn) => L.imageOverlay(
      image, bounds.map(([lat, lon]) => [lat, lon + turn]), {pane: "imagery", alt: name, className: "geossl-scene"})));
    let opacity = 1;
    const show = (last) => {  // of each place the newest scene up to a date; those without a date always
      const newest = new Map();
      scenes.forEach(({place, date}, i) => {
        const before = newest.get(place);
        if (date <= last && (before === undefined || date > scenes[before].date)) newest.set(place, i);
      });
      const shown = new Set(newest.values());
      layers.forEach((turns, i) => turns.forEach((layer) => {
        if (shown.has(i)) layer.setOpacity(opacity).addTo(map); else layer.remove();
      }));
    };
    const control = L.control({position: "topright"});
    control.onAdd = () => {
      const box = el("div", undefined, "geossl-imagery"), choice = el("select"), range = el("input");
      L.DomEvent.disableClickPropagation(box).disableScrollPropagation(box);
      for (const [value, words] of [["9999", "newest"], ...dates.slice().reverse().map((date) => [date, date])]) {
        const option = el("option", words);
        option.value = value;
        choice.append(option);
      }
      choice.setAttribute("aria-label", "date of the imagery");
      choice.title = "each place as of this date";
      choice.onchange = () => show(choice.value);
      Object.assign(range, {type: "range", min: 0, max: 100, value: 100, title: "opacity of the imagery"});
      range.setAttribute("aria-label", range.title);
      range.oninput = () => {
        opacity = range.value / 100;
        for (const layer of layers.flat()) layer.setOpacity(opacity);
      };
      box.append(el("span", "imagery"), ...(dates.length > 1 ? [choice] : dates.map((date) => el("span", date))), range);
      return box;
    };
    control.addTo(map);
    show("9999");
  };
  if (data.imagery) drawImagery(data.imagery);

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
            fillColor: on && !data.dots?.palette ? data.cells[i].color : data.gray, fillOpacity: on ? 0.5 : 0.28};
  };
  let linked = null;  // to the page around the map: says to it what is chosen here
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
  const room = () => {  // for the table, which covers what is next to it
    const table = map.getContainer().querySelector(".geossl-table[open]");
    return [table ? table.offsetWidth + 20 : 12, 12];
  };
  const bringIntoView = (box) => {
    const legend = map.getContainer().querySelector(".geossl-legend"), wide = legend ? legend.offsetWidth + 20 : 0;
    map.fitBounds(box, {
      animate: false, paddingBottomRight: room(), paddingTopLeft: [wide < map.getSize().x / 4 ? Math.max(12, wide) : 12, 20],
    });
  };
  const makeRoom = (shape) => { shape.getPopup().options.autoPanPaddingBottomRight = room()[0] > 12 ? room() : null; };
  const chooseCell = (i) => {
    highlight(highlighted === i ? null : i);
    if (linked) linked({chosen: highlighted});
  };
  (data.cells || []).forEach((cell, i) => {
    const shape = L.geoJSON(cell.shape, {style: () => styleOf(i), smoothFactor: 0.5}).addTo(map);
    if (cell.card) {
      shape.bindPopup(() => (makeRoom(shape), cardOf(cell.card)), popup);
      shape.on("popupopen", () => highlight(i));
      shape.on("popupclose", () => highlight(initial));
    } else shape.on("click", (event) => { L.DomEvent.stopPropagation(event); chooseCell(i); });
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
  const radians = Math.PI / 180;
  const vector = (lat, lon) => data.on === "degrees" ? [lon, lat, 0]
    : [Math.cos(lat * radians) * Math.cos(lon * radians), Math.cos(lat * radians) * Math.sin(lon * radians), Math.sin(lat * radians)];
  const clusterAt = ({lat, lng}) => {  // of the nearest center, then of those that divide its region
    const point = vector(lat, (lng + 540) % 360 - 180), {centers, cluster_of, parent} = data.regions;
    const away = centers.map(([x, y]) => vector(y, x).reduce((sum, v, j) => sum + (v - point[j]) ** 2, 0));
    for (let at = -1; ;) {
      const parts = centers.map((_, i) => i).filter((i) => parent[i] === at);
      if (!parts.length) return cluster_of[at];
      at = parts.reduce((best, i) => away[i] < away[best] ? i : best);
    }
  };
  if (shapes.length) map.on("click", ({latlng}) => {  // off the coast
    const i = clusterAt(latlng);
    if (data.cells[i].card) shapes[i].openPopup(latlng); else chooseCell(i);
  });
  // Edges are straight between the corners that Python gave them, right to 1/10,000 of a cell. What
  // is in view gets more corners, on the great circle (or straight in degrees) to half a pixel.
  const along = (a, b, t) => {
    if (data.on === "degrees" || a.lat === b.lat) return L.latLng(a.lat + t * (b.lat - a.lat), a.lng + t * (b.lng - a.lng));
    const [p, q] = [vector(a.lat, a.lng), vector(b.lat, b.lng)], [x, y, z] = p.map((v, j) => v + t * (q[j] - v));
    const lng = Math.atan2(y, x) / radians;
    return L.latLng(Math.atan2(z, Math.hypot(x, y)) / radians, lng + 360 * Math.round((a.lng - lng) / 360));
  };
  const refined = new Set();
  const refine = (whole, box, degreePx) => {
    if (Array.isArray(whole[0])) return whole.map((part) => refine(part, box, degreePx));
    const ring = [];
    whole.forEach((a, i) => {
      const b = whole[(i + 1) % whole.length];
      ring.push(a);
      if (Math.max(a.lng, b.lng) < box.getWest() || Math.min(a.lng, b.lng) > box.getEast()
        || Math.max(a.lat, b.lat) < box.getSouth() || Math.min(a.lat, b.lat) > box.getNorth()) return;
      const length = Math.hypot(a.lng - b.lng, a.lat - b.lat);
      const parts = Math.min(9999, Math.ceil(Math.sqrt(length * degreePx * length * radians / 2)));
      for (let j = 1; j < parts; j++) ring.push(along(a, b, j / parts));
    });
    return ring;
  };
  const drawEdges = () => {
    const box = map.getBounds().pad(0.3), degreePx = worldPx / 360 * Math.pow(2, map.getZoom());
    const near = data.on === "degrees" || map.getZoom() > map.getBoundsZoom(data.bounds) + 2;
    for (const shape of shapes) shape.eachLayer((path) => {
      path.whole = path.whole || path.getLatLngs();
      const seen = near && path.getBounds().isValid() && box.intersects(path.getBounds());
      if (seen) { path.setLatLngs(refine(path.whole, box, degreePx)); refined.add(path); }
      else if (refined.delete(path)) path.setLatLngs(path.whole);
    });
  };
  if (shapes.length) map.on("moveend", drawEdges);

  // -------------------------------------------------------------------------------------- lines
  for (const line of data.lines || []) {
    L.polyline(line.path, {color: line.color, weight: line.weight, opacity: 0.9, interactive: false})
      .addTo(map);
  }

  // ----------------------------------------------------------------------------------- overview
  const overview = data.overview &&
    L.imageOverlay(data.overview.image, data.overview.bounds, {pane: pane("overview", 350), className: "geossl-overview"});

  // ------------------------------------------------------------------------------------- points
  const middle = (view[0][1] + view[1][1]) / 2;
  const positions = (packed) => {  // float32, and the rest to float64 where a meter can be seen
    const rest = packed.rest && numbers(packed.rest, Float32Array);
    return Float64Array.from(numbers(packed.lon_lat, Float32Array), (x, i) => {
      const exact = rest ? x + rest[i] : x;
      return data.view && i % 2 === 0 ? exact + 360 * Math.round((middle - exact) / 360) : exact;
    });
  };
  if (data.dots) {
    const flat = positions(data.dots), turns = data.view ? [0] : [-360, 0, 360], dots = [];
    const renderer = L.canvas({pane: pane("dots", 420)});
    map.getPane("dots").style.pointerEvents = "none";
    const codes = data.dots.palette && numbers(data.dots.color, Uint8Array);
    const size = () => (codes ? 1.2 : 0) + (flat.length > 4000 ? 0.7 : 1.3) + Math.max(0, Math.min(1.7, 0.4 * (map.getZoom() - 3)));
    for (let i = 0; i < flat.length; i += 2) for (const turn of turns) {
      if (turn && Math.abs(flat[i] + turn) > 215) continue;
      dots.push(L.circleMarker([flat[i + 1], flat[i] + turn], {
        renderer, radius: size(), stroke: false, interactive: false,
        fillColor: codes ? data.dots.palette[codes[i / 2]] : "#222", fillOpacity: codes ? 0.9 : 0.7,
      }).addTo(map));
    }
    map.on("zoomend", () => { for (const dot of dots) dot.setRadius(size()); });
  }
  let choose = null;  // shows the points of a color, says whether there are any; all for null
  const drawPoints = (points) => {
    const lonLat = positions(points), count = lonLat.length / 2;
    const columns = points.columns.map((c) => ({
      name: c.name, words: c.words, unit: c.unit || "", integer: c.type !== "f4",
      values: numbers(c.values, {u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array}[c.type]),
    }));
    const value = (c, i) => c.words ? c.words[c.values[i]] : c.integer ? c.values[i] + c.unit
      : Number.isFinite(c.values[i]) ? String(Number(c.values[i].toPrecision(4))) + c.unit : "no value";
    const lon = (i) => (lonLat[2 * i] + 540) % 360 - 180;
    const card = (i) => ({
      strip: points.strips && points.strips[i],
      rows: [...columns.map((c) => [c.name, value(c, i)]),
             ["lon, lat", lon(i).toFixed(data.decimals) + ", " + lonLat[2 * i + 1].toFixed(data.decimals)]],
    });
    const colors = numbers(points.color, Uint8Array);
    const color = (i) => points.palette ? points.palette[colors[i]]
      : `rgb(${colors[3 * i]},${colors[3 * i + 1]},${colors[3 * i + 2]})`;
    let chosen = null;
    const isChosen = (i) => chosen === null || color(i) === chosen;
    const chooseAnd = (redraw) => (which) => {
      chosen = which;
      redraw();
      if (which === null) return false;
      const box = L.latLngBounds([]), more = 0.02 * (view[1][0] - view[0][0]);
      for (let i = 0; i < count; i++) if (isChosen(i)) box.extend(spot(i));
      if (!box.isValid()) return false;
      bringIntoView([[box.getSouth() - more, box.getWest() - more], [box.getNorth() + more, box.getEast() + more]]);
      return true;
    };
    const share = data.imagery ? 0.55 : 1;  // small, to leave the pictures to be seen
    const radius = () => share * (points.radius + Math.max(0, Math.min(6, 0.8 * (map.getZoom() - 2))));
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
      choose = chooseAnd(() => {
        let i = 0;
        group.eachLayer((mark) => {
          const on = isChosen(i++);
          mark.setStyle({fillOpacity: on ? 0.95 : 0.15, opacity: on ? 1 : 0.3});
          if (on && chosen !== null) mark.bringToFront();
        });
      });
      return;
    }

    const x = new Float64Array(count), y = new Float64Array(count);
    for (let i = 0; i < count; i++) ({x: x[i], y: y[i]} = project(lonLat[2 * i + 1], lonLat[2 * i]));
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
          if (now !== before) { pen.fillStyle = color(i); pen.globalAlpha = isChosen(i) ? 1 : 0.1; before = now; }
          if (small) pen.fillRect(px - r, py - r, 2 * r, 2 * r);
          else { pen.beginPath(); pen.arc(px, py, r, 0, 7); pen.fill(); }
        }
        map.getContainer().dataset.drawn = String(performance.now());
      },
    });
    const dots = new Dots();
    choose = chooseAnd(() => { if (map.hasLayer(dots)) dots.draw(); });
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
      const p = project(event.latlng.lat, event.latlng.lng);
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
      if ((data.legend.entries || []).length > 10) box.classList.add("long");
      if (data.legend.title) box.append(el("b", data.legend.title));
      for (const [color, name] of data.legend.entries || []) {
        const line = el("div"), dot = el("span"), choice = el("button");
        dot.style.background = color;
        choice.append(dot, document.createTextNode(name));
        choice.title = "show these only; once more: show all";
        choice.setAttribute("aria-pressed", "false");
        choice.onclick = () => {
          const chosen = choice.getAttribute("aria-pressed") !== "true" && choose(color);
          for (const other of box.querySelectorAll("button")) other.setAttribute("aria-pressed", String(chosen && other === choice));
          if (!chosen) { choose(null); fit(); }
        };
        line.append(choice);
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
            button.title = "show this cluster and gray out the others; once more: show all";
            button.onclick = () => {
              map.closePopup();
              highlight(highlighted === cell ? null : cell);
              fit();
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
    if (!map.getSize().x) return;  // in a hidden tab
    if (highlighted !== null) bringIntoView(data.cells[highlighted].bounds);
    else if (data.view) bringIntoView(data.view);
    else {  // the whole world, as wide as the map
      const [[south], [north]] = data.bounds;
      const aside = map.getSize().x > 900 ? room()[0] - 12 : 0, wide = map.getSize().x - aside;
      map.setView([22, 180 * aside / wide], Math.max(0, Math.log2(wide / worldPx)), {animate: false});
      const box = map.getBounds();
      if (south < box.getSouth() || north > box.getNorth()) map.fitBounds(data.bounds, {animate: false});
    }
    if (labels.length) unclutter();
  };
  fit();
  if (!map.getSize().x) map.once("resize", fit);
  if (highlighted !== null && shapes.length) highlight(highlighted);

  // ------------------------------------------- the page around the map, where it links itself to it
  if (window.parent !== window) {
    const post = (words) => window.parent.postMessage({geossl: words}, "*");
    let told = null;  // a view, which Leaflet rounds to pixels: told back, the map would drift
    const isTold = (center, zoom) => told && Math.abs(told[2] - zoom) < 1e-6
      && map.project(center, zoom).distanceTo(map.project([told[0], told[1]], zoom)) < 2;
    const tellView = () => { if (isTold(map.getCenter(), map.getZoom())) return; const {lat, lng} = map.getCenter(); post({view: [lat, lng, map.getZoom()]}); };
    const link = () => {
      linked = post;
      map.scrollWheelZoom.disable();  // else the page could not be scrolled past the map
      map.on("focus click", () => map.scrollWheelZoom.enable());
      map.on("blur mouseout", () => map.scrollWheelZoom.disable());
      map.on("moveend", tellView);
      const button = L.control({position: "topleft"});
      button.onAdd = () => {
        const box = el("div", undefined, "leaflet-bar"), part = el("a", "⤢");
        part.href = "#";
        part.title = "zoom to the highlighted cluster, or to all";
        part.setAttribute("role", "button");
        part.setAttribute("aria-label", part.title);
        L.DomEvent.disableClickPropagation(box).on(part, "click", (event) => { L.DomEvent.preventDefault(event); fit(); });
        box.append(part);
        return box;
      };
      button.addTo(map);
    };
    window.addEventListener("message", ({source, data: said}) => {
      if (source !== window.parent || !said || !said.geossl) return;
      const {view: seen, highlight: which, dark} = said.geossl;
      if (!linked) link();
      if (dark !== undefined) document.documentElement.classList.toggle("dark", dark);
      if (which !== undefined && which !== highlighted && shapes.length) {
        highlight(which);
        if (which !== null && !map.getBounds().intersects(data.cells[which].bounds)) fit();
      }
      if (seen) {
        told = seen;
        map.off("resize", fit);
        map.setView([seen[0], seen[1]], seen[2], {animate: false});
      }
      post({settled: true});
    });
    post({ready: true});
  }
})
