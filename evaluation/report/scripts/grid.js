// The grid: one row a layout, one column a method. Only the rows in sight are in the document.

const GRID = find("grid");
const ROWS = find("rows");
const SPARE = 3; // rows above and below the sight
const narrow = matchMedia("(max-width: 700px)");
const grid = { selection: null, drawn: new Map(), active: { place: 0, method: 0 }, hovered: null, height: 0 };

function prepareGrid() {
  find("columns").append(
    el("div", { class: "about", role: "columnheader" }, "Caption"),
    el("div", { class: "cell", role: "columnheader" }, "layout"),
    ...METHODS.map((name) => el("div", { class: "cell", role: "columnheader", title: name, "data-method": name }, breakable(name))),
  );
  GRID.setAttribute("aria-colcount", METHODS.length + 2);
  FIELDS.size.value = fittingSize();
  FIELDS.size.addEventListener("input", () => keepPlace(drawGrid));
  FIELDS.boxes.addEventListener("input", refreshBoxes);
  GRID.addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  GRID.addEventListener("pointerover", ({ target, pointerType }) => pointerType === "mouse" && hover(target.closest(".row")));
  GRID.addEventListener("pointerleave", () => hover(null));
  GRID.addEventListener("click", clicked);
  GRID.addEventListener("keydown", gridKey);
  GRID.addEventListener("focus", refreshBoxes);
  GRID.addEventListener("blur", refreshBoxes);
  new ResizeObserver(() => drawGrid()).observe(GRID);
}

function fittingSize() {
  if (narrow.matches) return 96;
  const room = (document.documentElement.clientWidth - 270) / (METHODS.length + 1) - 8;
  return Math.max(72, Math.min(160, Math.floor(room / 4) * 4));
}

// Keeps the same layout at the top while `change` makes rows of another height.
function keepPlace(change) {
  const first = GRID.scrollTop / (grid.height || 1);
  change();
  GRID.scrollTop = first * grid.height;
  drawRows();
}

function showSelection(selection) {
  grid.selection = selection;
  grid.active.place = 0;
  GRID.scrollTop = 0;
  GRID.setAttribute("aria-rowcount", selection.shown.length + 1);
  for (const head of find("columns").children) {
    const { of, minus } = selection.filter;
    head.classList.toggle("of", head.dataset.method === of);
    head.classList.toggle("minus", head.dataset.method === minus);
  }
  drawGrid();
}

function drawGrid() {
  if (!grid.selection || !GRID.clientHeight) return;
  const size = Number(FIELDS.size.value);
  grid.height = size + (narrow.matches ? 76 : 30);
  GRID.style.setProperty("--size", `${size}px`);
  GRID.style.setProperty("--row", `${grid.height}px`);
  GRID.style.setProperty("--columns", METHODS.length + 1);
  GRID.style.setProperty("--sight", `${GRID.clientWidth}px`);
  ROWS.style.height = `${grid.height * grid.selection.shown.length}px`;
  for (const row of grid.drawn.values()) row.remove();
  grid.drawn.clear();
  drawRows();
}

function drawRows() {
  const first = Math.max(0, Math.floor(GRID.scrollTop / grid.height) - SPARE);
  const last = Math.min(grid.selection.shown.length, Math.ceil((GRID.scrollTop + GRID.clientHeight) / grid.height) + SPARE);
  for (const [place, row] of grid.drawn) {
    if (place < first || place >= last) row.remove(), grid.drawn.delete(place);
  }
  for (let place = first; place < last; place++) {
    if (!grid.drawn.has(place)) grid.drawn.set(place, ROWS.appendChild(gridRow(place)));
  }
  refreshBoxes();
}

function gridRow(place) {
  const layout = grid.selection.shown[place];
  watchStrip(layout);
  const canvas = el("div", { class: "thumb canvas" }, drawBoxes(layout, null));
  const row = el(
    "div",
    { class: place % 2 ? "row odd" : "row", role: "row", "aria-rowindex": place + 2, "data-place": place },
    about(layout),
    el("div", { class: "cell", role: "gridcell" }, canvas, el("div", { class: "score" }, objectCount(layout) === 1 ? "1 object" : `${objectCount(layout)} objects`)),
    gridCells(place, layout),
  );
  row.style.transform = `translateY(${place * grid.height}px)`;
  return row;
}

function about(layout) {
  const { filter, values } = grid.selection;
  const value = values[layout];
  const text = filter.minus ? signed(value) : digits(value);
  const sign = !filter.minus || Number.isNaN(value) || !value ? "" : value > 0 ? "up" : "down";
  return el(
    "div",
    { class: "about", role: "rowheader" },
    el("p", { class: "facts" }, el("span", { class: `value ${sign}` }, text), ` #${LAYOUTS.ids[layout]}`),
    el("p", { class: "caption", title: LAYOUTS.captions[layout] }, ...captionOf(layout)),
    el("p", { class: "legend" }, legendOf(layout)),
  );
}

function gridCells(place, layout) {
  const { filter } = grid.selection;
  const { score, of, minus } = filter;
  const values = METHODS.map((_, method) => scoresOf(score, method, filter)[layout]);
  const extreme = SCORES[score].higherIsBetter ? Math.max : Math.min;
  const best = extreme(...values.filter((value, method) => METHODS[method] !== "real" && !Number.isNaN(value)));
  return METHODS.map((name, method) => {
    const kind = name === of ? "cell of" : name === minus ? "cell minus" : "cell";
    const shown = el("div", { class: values[method] === best && name !== "real" ? "score best" : "score" }, digits(values[method]));
    const thumb = el("div", { class: "thumb" }, picture(layout, method, `${name}, ${SCORES[score].title} ${digits(values[method])}`));
    return el("div", { class: kind, role: "gridcell", id: `cell-${place}-${method}`, "data-method": method }, thumb, shown);
  });
}

// Boxes lie over the row under the pointer and over the active row; over all of them where that is wished.
function refreshBoxes() {
  const focused = document.activeElement === GRID;
  for (const [place, row] of grid.drawn) {
    const active = focused && place === grid.active.place;
    const wanted = FIELDS.boxes.checked || active || row === grid.hovered;
    if (wanted !== row.classList.contains("boxed")) toggleBoxes(row, wanted);
    for (const cell of row.querySelectorAll("[data-method]")) {
      cell.classList.toggle("active", active && Number(cell.dataset.method) === grid.active.method);
    }
  }
  const id = `cell-${grid.active.place}-${grid.active.method}`;
  if (focused && find(id)) GRID.setAttribute("aria-activedescendant", id);
  else GRID.removeAttribute("aria-activedescendant");
}

function toggleBoxes(row, wanted) {
  const layout = grid.selection.shown[Number(row.dataset.place)];
  row.classList.toggle("boxed", wanted);
  for (const cell of row.querySelectorAll("[data-method]")) {
    if (wanted) cell.firstChild.append(drawBoxes(layout, Number(cell.dataset.method)));
    else cell.querySelector(".boxes").remove();
  }
}

function hover(row) {
  if (row === grid.hovered) return;
  grid.hovered = row;
  refreshBoxes();
}

// A mouse, which has hovered, opens; a finger first activates, and so sees the boxes.
function clicked(event) {
  const row = event.target.closest(".row");
  if (!row) return;
  const cell = event.target.closest("[data-method]");
  const place = Number(row.dataset.place);
  const method = cell ? Number(cell.dataset.method) : grid.active.method;
  const again = grid.active.place === place && grid.active.method === method && row.classList.contains("boxed");
  activate(place, method);
  if (event.pointerType === "mouse" || again) openDetail(place);
}

function activate(place, method) {
  grid.active = { place, method };
  GRID.focus({ preventScroll: true });
  refreshBoxes();
}

function gridKey(event) {
  const move = moves()[event.key];
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Enter" || event.key === " ") openDetail(grid.active.place);
  else if (move) moveBy(...move);
  else return;
  event.preventDefault();
}

function moves() {
  const page = Math.max(1, Math.floor(GRID.clientHeight / grid.height) - 1);
  return {
    ArrowDown: [1, 0],
    ArrowUp: [-1, 0],
    ArrowRight: [0, 1],
    ArrowLeft: [0, -1],
    j: [1, 0],
    k: [-1, 0],
    PageDown: [page, 0],
    PageUp: [-page, 0],
    Home: [-Infinity, 0],
    End: [Infinity, 0],
  };
}

const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

function moveBy(rows, methods) {
  if (!grid.selection.shown.length) return;
  const place = clamp(grid.active.place + rows, 0, grid.selection.shown.length - 1);
  const method = clamp(grid.active.method + methods, 0, METHODS.length - 1);
  grid.active = { place, method };
  bringIntoSight(place, method);
  drawRows();
}

function bringIntoSight(place, method) {
  const room = GRID.clientHeight - find("columns").offsetHeight;
  GRID.scrollTop = clamp(GRID.scrollTop, (place + 1) * grid.height - room, place * grid.height);
  const [, , ...heads] = find("columns").children;
  const hidden = narrow.matches ? 0 : find("columns").firstChild.offsetWidth;
  const { offsetLeft, offsetWidth } = heads[method];
  GRID.scrollLeft = clamp(GRID.scrollLeft, offsetLeft + offsetWidth - GRID.clientWidth, method ? offsetLeft - hidden : 0);
}
