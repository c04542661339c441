// A map page of geossl.viz.maps in a frame; it and this widget exchange messages, see map.js.
export default {
  render({model, el}) {
    const box = document.createElement("div");
    box.className = "geossl-map";
    el.append(box);
    let frame = null, shown = null;  // the frame of the current page, the view that it last told
    const isDark = () => document.body.dataset.jpThemeLight === "false";
    const which = () => model.get("highlight") < 0 ? null : model.get("highlight");
    const send = (words, to = frame) => to && to.contentWindow && to.contentWindow.postMessage({geossl: words}, "*");
    const isSame = (a, b) => a && b && a.length === b.length && a.every((x, i) => Math.abs(x - b[i]) < 1e-7);

    const draw = () => {
      const page = model.get("page"), before = frame;
      box.style.display = page ? "" : "none";
      box.style.height = model.get("height_px") + "px";
      if (!page) { box.replaceChildren(); frame = null; return; }
      frame = document.createElement("iframe");
      frame.setAttribute("sandbox", "allow-scripts");
      frame.title = model.get("alt");
      frame.srcdoc = page;
      frame.style.visibility = before ? "hidden" : "";  // until it is where the old one was
      box.append(frame);
    };
    const settle = () => {
      frame.style.visibility = "";
      for (const other of [...box.children]) if (other !== frame) other.remove();
    };
    const listen = ({source, data}) => {
      if (!frame || source !== frame.contentWindow || !data || !data.geossl) return;
      const {ready, settled, view, chosen} = data.geossl;
      if (ready) {
        const words = {dark: isDark(), highlight: which()}, last = shown || model.get("view");
        if (last && last.length) words.view = last;
        send(words);
      }
      if (settled) settle();
      if (view && !isSame(view, shown)) { shown = view; model.set("view", view); model.save_changes(); }
      if (chosen !== undefined) {
        model.set("highlight", chosen === null ? -1 : chosen);
        model.save_changes();
      }
    };
    const turn = () => { if (!isSame(model.get("view"), shown)) { shown = model.get("view"); if (shown.length) send({view: shown}); } };
    const highlight = () => send({highlight: which()});
    window.addEventListener("message", listen);
    const theme = new MutationObserver(() => send({dark: isDark()}));
    theme.observe(document.body, {attributes: true, attributeFilter: ["data-jp-theme-light"]});
    model.on("change:page", draw);
    model.on("change:highlight", highlight);
    model.on("change:view", turn);
    draw();
    return () => {
      window.removeEventListener("message", listen);
      theme.disconnect();
      model.off("change:page", draw);
      model.off("change:highlight", highlight);
      model.off("change:view", turn);
    };
  },
};
