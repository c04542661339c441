// Chips of the selection or of a search, and the film strip of one place through its dates.
const SHOWN = 32;

class GalleryView {
  constructor(host, parent) {
    this.host = host;
    this.strip = element("div", "", parent, "geossl-strip");
    this.note = element("div", "", parent, "geossl-note");
    this.list = element("div", "", parent, "geossl-gallery");
    this.turn = 0;
  }
  async show(rows, note, captions) {
    const turn = ++this.turn;
    this.note.textContent = note;
    if (!this.host.hasPictures) { this.note.textContent = "The images of the selection appear where Python runs."; return; }
    await this.host.fetchPictures(rows);
    if (turn !== this.turn) return;  // another selection came meanwhile
    this.fill(this.list, rows, captions);
    this.host.shown(rows);
  }
  async showPlace(row) {  // all its dates, in order
    const {host} = this;
    this.strip.replaceChildren();
    host.path = [];
    if (row < 0) return;
    const rows = host.datesOf(row);
    if (rows.length > 1) {
      host.path = rows;
      await host.fetchPictures(rows);
      if (host.query !== row) return;
      element("div", `The same place at ${rows.length} dates; its path is drawn in the scatter.`, this.strip, "geossl-note");
      this.fill(element("div", "", this.strip, "geossl-gallery"), rows, rows.map((i) => host.dateText(i)));
    }
  }
  fill(list, rows, captions) {
    const {host} = this, hadFocus = list.contains(document.activeElement);
    list.replaceChildren(...rows.map((row, k) => {
      const {url = "", words = `row ${row}`} = host.pictures.get(row) || {}, button = document.createElement("button");
      button.type = "button";
      button.title = words + " (click to see similar places)";
      button.setAttribute("aria-label", captions?.[k] ? `${words}, ${captions[k]}` : words);
      button.setAttribute("aria-pressed", String(row === host.query));
      button.dataset.row = row;
      if (url) {
        const image = element("img", "", button);
        image.src = url;
        image.alt = "";
      } else element("span", "no picture", button, "geossl-nothing");
      const label = host.labelOf(row);
      if (label) element("em", label, button);
      element("small", captions?.[k] ?? host.dateText(row), button);
      button.onclick = () => host.pick(row, true);
      button.onmouseenter = button.onfocus = () => host.glance(row);
      button.onmouseleave = button.onblur = () => host.glance(-1);
      return button;
    }));
    if (hadFocus) (list.querySelector('[aria-pressed="true"]') || list.firstChild)?.focus();  // keys go on
  }
}
