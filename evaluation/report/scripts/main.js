// What stands around the sections: address, theme, keys, and the line that sums a selection up.

const SECTIONS = ["results", "figures", "images"];
const BARS = 41;
const THEMES = ["light dark", "light", "dark"];
const KEYS = [
  ["1 2 3", "tables, figures, images"],
  ["/", "search captions"],
  ["arrows, j k", "move in the grid; with its rows, Page Up and Down, Home, End"],
  ["Enter", "the layout at large; arrows there go to the next and the one before"],
  ["b", "boxes always, or only on the row in focus"],
  ["w  s  l", "order: lowest first, highest first, as in the layouts"],
  ["d", "light, dark, or as the system"],
  ["?", "these keys"],
];

function start() {
  document.title = `${CONTENT.run}: tables, figures, images`;
  find("run").textContent = CONTENT.run;
  find("extent").textContent = `${COUNT.toLocaleString("en")} layouts × ${METHODS.length} methods`;
  find("caveat").textContent = CONTENT.caveat;
  find("caveat").hidden = !CONTENT.caveat;
  showTables(find("results"));
  showFigures(find("figures"));
  find("panel").open = !narrow.matches;
  prepareFilter(filterChanged);
  prepareGrid();
  prepareDetail();
  prepareTheme();
  prepareKeys();
  addEventListener("hashchange", route);
  route();
}

function route() {
  const [name, words] = location.hash.slice(1).split("?");
  const section = SECTIONS.includes(name) ? name : SECTIONS[0];
  document.body.dataset.section = section;
  for (const id of SECTIONS) find(id).hidden = id !== section;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash.split("?")[0] === `#${section}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (section !== "images") return;
  if (words !== undefined || !grid.selection) readAddress(words ?? "");
  refreshSelection();
}

// What was typed is applied a moment later: by then the reader may be in another section, whose address stays.
function filterChanged() {
  refreshSelection();
  if (location.hash.split("?")[0] === "#images") history.replaceState(null, "", filterAddress());
}

function refreshSelection() {
  const selection = select();
  showSelection(selection);
  showSummary(selection);
  find("to-images").setAttribute("href", filterAddress());
}

function showSummary({ filter, values, passing, shown }) {
  const known = shown.map((layout) => values[layout]).filter((value) => !Number.isNaN(value));
  const what = filter.minus ? `${filter.of} − ${filter.minus}` : filter.of;
  find("count").replaceChildren(
    el("strong", {}, shown.length.toLocaleString("en")),
    ` of ${COUNT.toLocaleString("en")} layouts. ${SCORES[filter.score].title}, ${what}: ${known.length ? spread(known, filter.minus) : "nothing measured"}${known.length < shown.length ? `; no value in ${shown.length - known.length}` : ""}.`,
  );
  find("filtered").textContent = shown.length === COUNT ? "" : ` · ${shown.length.toLocaleString("en")} shown`;
  showHistogram(filter, passing.map((layout) => values[layout]).filter((value) => !Number.isNaN(value)));
}

function spread(values, isDifference) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (!isDifference) return `mean ${digits(mean)}`;
  const higher = values.filter((value) => value > 1e-9).length;
  const lower = values.filter((value) => value < -1e-9).length;
  return `mean ${signed(mean)}; higher in ${higher}, lower in ${lower}, equal in ${values.length - higher - lower}`;
}

// Differences are binned about zero, so that a bar is of one sign.
function showHistogram({ low, high, minus }, values) {
  const most = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const least = minus || values.some((value) => value < 0) ? -most : 0;
  const width = (most - least) / BARS;
  const counts = new Array(BARS).fill(0);
  for (const value of values) counts[Math.min(BARS - 1, Math.floor((value - least) / width))]++;
  const tallest = Math.max(...counts, 1);
  const [from, to] = [bound(low, -Infinity), bound(high, Infinity)];
  const bars = counts.map((count, bar) => {
    const [left, right] = [least + bar * width, least + (bar + 1) * width];
    const side = !minus ? "" : bar > (BARS - 1) / 2 ? "up" : bar < (BARS - 1) / 2 ? "down" : "";
    const out = right <= from || left >= to ? "out" : "";
    const node = el("i", { class: `${side} ${out}`, title: `${digits(left)} to ${digits(right)}: ${count}`, click: () => setRange(left, right) });
    node.style.setProperty("--height", `${count && Math.max(4, (100 * count) / tallest)}%`);
    return node;
  });
  find("histogram").setAttribute("aria-label", `Histogram from ${digits(least)} to ${digits(most)}`);
  find("histogram").replaceChildren(el("div", { class: "bars" }, bars), el("div", { class: "axis" }, el("span", {}, digits(least)), minus && el("span", {}, "0"), el("span", {}, digits(most))));
}

// Rounded outwards: a mean over three boxes at the edge must not fall out of its own bar.
function setRange(left, right) {
  setFilter({ low: (Math.floor(left * UNIT) / UNIT).toFixed(4), high: (Math.ceil(right * UNIT) / UNIT).toFixed(4) });
  filterChanged();
}

// The theme outlives the page where the browser lets it.
function prepareTheme() {
  let theme = "light dark";
  try {
    theme = localStorage.getItem("theme") ?? theme;
  } catch {
    // no storage: the theme is the system's until it is changed
  }
  setTheme(THEMES.includes(theme) ? theme : THEMES[0]);
  find("theme").addEventListener("click", nextTheme);
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.style.colorScheme) + 1) % THEMES.length];
  setTheme(theme);
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // as above
  }
}

function setTheme(theme) {
  const [sign, label] = { "light dark": ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] }[theme];
  document.documentElement.style.colorScheme = theme;
  find("theme").textContent = sign;
  find("theme").title = `Theme: ${label} (d)`;
  find("theme").setAttribute("aria-label", `Theme: ${label}`);
}

function prepareKeys() {
  find("keys").append(
    el("h2", {}, "Keys"),
    el("dl", {}, KEYS.map(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)])),
    el("button", { type: "button", click: () => find("keys").close() }, "Close"),
  );
  find("help").addEventListener("click", () => find("keys").showModal());
  addEventListener("keydown", pageKey);
}

function pageKey(event) {
  const typing = event.target.closest?.("input:not([type=checkbox], [type=range]), select, textarea");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const act = {
    1: () => (location.hash = "#results"),
    2: () => (location.hash = "#figures"),
    3: showImages,
    "/": () => (showImages(), (find("panel").open = true), FIELDS.q.focus()),
    b: () => (FIELDS.boxes.checked = !FIELDS.boxes.checked, refreshBoxes()),
    w: () => orderBy("worst"),
    s: () => orderBy("best"),
    l: () => orderBy("layout"),
    d: nextTheme,
    "?": () => find("keys").showModal(),
  }[event.key];
  if (act) act(), event.preventDefault();
}

function showImages() {
  if (document.body.dataset.section === "images") return GRID.focus();
  history.pushState(null, "", filterAddress());
  route();
  GRID.focus();
}

function orderBy(order) {
  if (document.body.dataset.section !== "images") return;
  setFilter({ order });
  filterChanged();
}

start();
