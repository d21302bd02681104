// One layout at large: every method's image, and what was measured of every box in it.

const DETAIL = find("detail");
const detail = { place: 0, boxes: true };

function prepareDetail() {
  DETAIL.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1 }[event.key];
    if (step) stepDetail(step), event.preventDefault();
    if (event.key === "b") toggleDetailBoxes();
  });
  DETAIL.addEventListener("click", ({ target }) => target === DETAIL && DETAIL.close());
  DETAIL.addEventListener("close", () => GRID.focus({ preventScroll: true }));
}

function openDetail(place) {
  if (!grid.selection.shown.length) return;
  showDetail(place);
  if (!DETAIL.open) DETAIL.showModal();
}

function stepDetail(step) {
  const method = grid.active.method;
  moveBy(step, 0);
  grid.active.method = method;
  showDetail(grid.active.place);
}

function toggleDetailBoxes() {
  detail.boxes = !detail.boxes;
  DETAIL.classList.toggle("plain", !detail.boxes);
  DETAIL.querySelector("[aria-pressed]").setAttribute("aria-pressed", detail.boxes);
}

function showDetail(place) {
  detail.place = place;
  const layout = grid.selection.shown[place];
  const keys = [...(SCORES.region_clip ? ["CLIP"] : []), ...(SCORES.best_iou ? ["overlap"] : [])].join(" and ");
  DETAIL.replaceChildren(
    detailHead(place, layout),
    el("p", { class: "facts" }, `Layout ${LAYOUTS.ids[layout]}, image ${LAYOUTS.images[layout]}. Of every box: ${keys}${SCORES.success ? ", and whether the detector found it (dashed: not)" : ""}.`),
    el("div", { class: "cards" }, METHODS.map((_, method) => detailCard(layout, method))),
  );
  DETAIL.scrollTop = 0;
}

function detailHead(place, layout) {
  const button = (text, label, click, more = {}) => el("button", { type: "button", title: label, "aria-label": label, click, ...more }, text);
  return el(
    "div",
    { class: "head" },
    el("h2", { id: "detail-title" }, ...captionOf(layout)),
    el(
      "div",
      { class: "buttons" },
      el("span", {}, `${place + 1} / ${grid.selection.shown.length}`),
      button("←", "Previous layout", () => stepDetail(-1)),
      button("→", "Next layout", () => stepDetail(1)),
      button("Boxes", "Boxes (b)", toggleDetailBoxes, { "aria-pressed": String(detail.boxes) }),
      button("×", "Close", () => DETAIL.close()),
    ),
  );
}

function detailCard(layout, method) {
  const { of, minus } = grid.selection.filter;
  const name = METHODS[method];
  const clip = SCORES.image_clip ? `CLIP ${digits(measuredOf("image_clip", method, layout))}` : "";
  return el(
    "figure",
    { class: name === of ? "of" : name === minus ? "minus" : null },
    el("div", { class: "thumb" }, picture(layout, method, name), drawBoxes(layout, method)),
    el("figcaption", {}, el("strong", {}, name), el("span", { class: "faint" }, clip)),
    el("ul", {}, objectsOf(layout).map((object) => boxLine(layout, object, method))),
  );
}

function boxLine(layout, object, method) {
  const found = SCORES.success ? measuredOf("success", method, object) : NaN;
  const numbers = ["region_clip", "best_iou"].filter((name) => SCORES[name]).map((name) => el("span", { class: "number" }, digits(measuredOf(name, method, object))));
  const verdict = Number.isNaN(found) ? "" : found ? "✓" : "✗";
  return el(
    "li",
    {},
    el("i", { class: `key ${colourOf(layout)(object)}` }),
    el("span", { class: "phrase", title: phraseOf(object) }, phraseOf(object)),
    numbers,
    el("span", { class: found ? "yes" : "no", title: verdict && (found ? "found by the detector" : "not found by the detector") }, verdict),
  );
}
