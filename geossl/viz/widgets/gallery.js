// Chips as buttons: choosing one tells Python its row.
export default {
  render({model, el}) {
    const list = document.createElement("div"), note = document.createElement("div");
    list.className = "geossl-gallery";
    note.className = "geossl-status";
    el.append(list, note);
    const draw = () => {
      list.replaceChildren(...model.get("chips").map((chip) => {
        const button = document.createElement("button");
        button.type = "button";
        button.title = chip.words + " (click to see similar places)";
        button.setAttribute("aria-label", chip.words);
        if (chip.image) {
          const image = document.createElement("img");
          image.src = chip.image;
          image.alt = "";
          button.append(image);
        }
        const words = document.createElement("small");
        words.textContent = chip.caption;
        button.append(words);
        button.onclick = () => {
          model.set("chosen", chip.row);
          model.set("times", model.get("times") + 1);
          model.save_changes();
        };
        return button;
      }));
      note.textContent = model.get("note");
    };
    model.on("change:chips change:note", draw);
    draw();
  },
};
