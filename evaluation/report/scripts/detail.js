// One layout at large: every method's image, and what was measured of every box in it.

const DETAIL = find("detail");

// What a step replaces holds no focus: the buttons stay, and with them the keys that the dialog hears.
function prepareDetail() {
  DETAIL.append(detailHead(), el("p", { class: "facts", id: "detail-facts" }), el("div", { class: "cards", id: "detail-cards" }));
  DETAIL.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1 }[event.key];
    if (step) stepDetail(step), event.preventDefault();
    if (event.key === "b") toggleDetailBoxes();
  });
  DETAIL.addEventListener("click", ({ target }) => target === DETAIL && DETAIL.close());
  DETAIL.addEventListener("close", () => GRID.focus({ preventScroll: true }));
}

function detailHead() {
  const button = (text, label, click, more = {}) => el("button", { type: "button", title: label, "aria-label": label, click, ...more }, text);
  return el(
    "div",
    { class: "head" },
    el("h2", { id: "detail-title" }),
    el(
      "div",
      { class: "buttons" },
      el("span", { id: "detail-place" }),
      button("←", "Previous layout", () => stepDetail(-1)),
      button("→", "Next layout", () => stepDetail(1)),
      button("Boxes", "Boxes (b)", toggleDetailBoxes, { "aria-pressed": "true" }),
      button("×", "Close", () => DETAIL.close()),
    ),
  );
}

function openDetail(place) {
  if (!grid.selection.shown.length) return;
  showDetail(place);
  if (!DETAIL.open) DETAIL.showModal();
}

function stepDetail(step) {
  moveBy(step, 0);
  showDetail(grid.active.place);
}

function toggleDetailBoxes() {
  const plain = DETAIL.classList.toggle("plain");
  DETAIL.querySelector("[aria-pressed]").setAttribute("aria-pressed", !plain);
}

function showDetail(place) {
  const layout = grid.selection.shown[place];
  find("detail-title").replaceChildren(...captionOf(layout));
  find("detail-place").textContent = `${place + 1} / ${grid.selection.shown.length}`;
  find("detail-facts").textContent = `Layout ${LAYOUTS.ids[layout]}, image ${LAYOUTS.images[layout]}.${measuresOfBoxes()}`;
  find("detail-cards").replaceChildren(...METHODS.map((_, method) => detailCard(layout, method)));
  DETAIL.scrollTop = 0;
}

function measuresOfBoxes() {
  const names = { region_clip: "CLIP", best_iou: "overlap", instance_success: "whether the detector found it (dashed: not)" };
  const measured = Object.keys(names).filter((name) => SCORES[name]).map((name) => names[name]);
  return measured.length ? ` Of every box: ${measured.join(", ")}.` : "";
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
  const found = SCORES.instance_success ? measuredOf("instance_success", method, object) : NaN;
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
