// Labels of one's own: names for chips, a probe that learns from them at once, and a dropped image.
function labelPanel(host, model, parent, ask) {
  const box = element("section", "", null, "geossl-labels"), head = element("header", "", box);
  parent.prepend(box);
  element("b", "my labels", head);
  const note = element("span", "", head, "geossl-faint"), names = element("div", "", box, "geossl-names");
  const name = element("input", "", names);
  name.placeholder = "a new name";
  name.setAttribute("aria-label", "name of a new label");
  const target = () => {  // the chosen chip, else the selection
    if (host.query >= 0) return [host.query];
    return host.filters.any ? [...host.filters.selected()] : [];
  };
  const give = (text) => ask("label", {rows: target(), name: text});
  name.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && name.value.trim()) { give(name.value.trim()); name.value = ""; }
  };
  const list = element("span", "", names), tools = element("div", "", box, "geossl-names");
  const button = (words, title, action) => {
    const node = element("button", words, tools);
    node.title = title;
    node.onclick = action;
  };
  button("undo", "take the last label back", () => ask("undo"));
  button("least certain", "images of which the probe is least certain", () => ask("uncertain"));
  button("more like these", "images like the chosen ones, unlike those marked less", () => ask("like", {rows: target(), like: true}));
  button("less like those", "turn the ranking away from the chosen ones", () => ask("like", {rows: target(), like: false}));
  const path = element("input", "", tools);
  path.value = model.get("label_path");
  path.setAttribute("aria-label", "file to save the labels in: .csv, .parquet or .geojson");
  path.onkeydown = (event) => event.stopPropagation();
  button("save", "write the labels with their table", () => ask("save_labels", {path: path.value}));
  const update = () => {
    const {names: known, counts, note: text} = model.get("labels");
    note.textContent = text;
    list.replaceChildren(...known.map((word, k) => {
      const node = element("button", `${k < 9 ? `${k + 1} ` : ""}${word} (${counts[k]})`);
      node.title = `label the chosen image, or the selection, ${word}${k < 9 ? `; key ${k + 1}` : ""}`;
      node.onclick = () => give(word);
      return node;
    }));
  };
  model.on("change:labels", update);
  update();
  host.row.parentElement.addEventListener("keydown", (event) => {
    const word = model.get("labels").names[Number(event.key) - 1];
    if (!/^[1-9]$/.test(event.key) || event.ctrlKey || event.metaKey || event.altKey || !word) return;
    event.preventDefault();
    event.stopPropagation();
    give(word);
  });
}

function dropImage(el, ask) {
  el.addEventListener("dragover", (event) => { event.preventDefault(); el.classList.add("geossl-dropping"); });
  el.addEventListener("dragleave", (event) => { if (!el.contains(event.relatedTarget)) el.classList.remove("geossl-dropping"); });
  el.addEventListener("drop", async (event) => {
    event.preventDefault();
    el.classList.remove("geossl-dropping");
    const file = event.dataTransfer.files[0];
    if (file) ask("image", {name: file.name}, [await file.arrayBuffer()]);
  });
}
