// The figures, each on the white it was drawn for; a click shows one at its own size.

function showFigures(place) {
  if (!CONTENT.figures.length) place.append(el("p", { class: "empty" }, "This run has no figures."));
  for (const { name, title, source } of CONTENT.figures) {
    const image = el("img", { src: source, alt: title, loading: "lazy" });
    const open = el("button", { type: "button", class: "figure", "aria-pressed": "false", title: "Own size, or fitted" }, image);
    open.addEventListener("click", () => open.setAttribute("aria-pressed", open.ariaPressed !== "true"));
    place.append(el("article", { id: `figure-${name}`, class: "card" }, el("h2", {}, title), open));
  }
}
