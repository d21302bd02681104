// Which layouts are shown, and in which order: the form, its place in the address, and what follows from it.

const FORM = find("filter");
const FIELDS = FORM.elements;
const ORDERS = { layout: "as in the layouts", worst: "lowest first", best: "highest first" };
const HAY = LAYOUTS.captions.map((caption, layout) => `${caption.toLowerCase()} ${LAYOUTS.ids[layout]}`);

function defaults() {
  const [of, minus] = CONTENT.compare;
  const score = SCORES.region_clip ? "region_clip" : Object.keys(SCORES)[0];
  const bands = Object.fromEntries(FACETS.map((facet) => [facet.field, ""]));
  return { q: "", category: "", least: "", most: "", ...bands, score, of, minus, order: "layout", low: "", high: "" };
}

function prepareFilter(changed) {
  FIELDS.category.append(option("", "any"), ...categories().map(([name, count]) => option(name, `${name} (${count})`)));
  for (const facet of FACETS) FORM.insertBefore(bandField(facet), FIELDS.score.parentElement);
  FIELDS.score.append(...Object.entries(SCORES).map(([name, { title }]) => option(name, title)));
  FIELDS.of.append(...METHODS.map((name) => option(name)));
  FIELDS.minus.append(option("", "nothing"), ...METHODS.map((name) => option(name)));
  FIELDS.order.append(...Object.entries(ORDERS).map(([name, text]) => option(name, text)));
  setFilter(defaults());
  let waiting;
  const edited = ({ target }) => {
    if (!(target.name in defaults())) return;
    clearTimeout(waiting);
    waiting = setTimeout(changed, target.name === "q" ? 120 : 0);
  };
  // What fills forms in for people, such as a screen reader or an extension, may send the second alone.
  FORM.addEventListener("input", edited);
  FORM.addEventListener("change", edited);
  FORM.addEventListener("submit", (event) => event.preventDefault());
  FORM.addEventListener("reset", (event) => {
    event.preventDefault();
    setFilter(defaults());
    changed();
  });
}

function bandField({ title, field, bands, place, perBox }) {
  const counts = new Array(bands.length).fill(0);
  for (const band of place) if (band >= 0) counts[band]++;
  const choices = bands.map((band, number) => option(String(number), `${band} (${counts[number]}${perBox ? " boxes" : ""})`));
  return el("label", {}, title, el("select", { name: field }, option("", "any"), choices));
}

function categories() {
  const counts = new Array(LAYOUTS.phrases.length).fill(0);
  for (let layout = 0; layout < COUNT; layout++) {
    for (const phrase of new Set(objectsOf(layout).map((object) => LAYOUTS.phrase[object]))) counts[phrase]++;
  }
  return LAYOUTS.phrases.map((name, phrase) => [name, counts[phrase]]);
}

function setFilter(values) {
  for (const [name, value] of Object.entries(values)) {
    if (FIELDS[name].tagName === "SELECT") choose(FIELDS[name], value);
    else FIELDS[name].value = value;
  }
}

function filterValues() {
  return Object.fromEntries(Object.keys(defaults()).map((name) => [name, FIELDS[name].value]));
}

// The address keeps what differs from the defaults, so that a view can be sent to someone who has the same page.
function filterAddress() {
  const usual = defaults();
  const differing = Object.entries(filterValues()).filter(([name, value]) => value !== usual[name]);
  const words = new URLSearchParams(differing).toString();
  return words ? `#images?${words}` : "#images";
}

function readAddress(words) {
  const known = [...new URLSearchParams(words)].filter(([name]) => name in defaults());
  setFilter({ ...defaults(), ...Object.fromEntries(known) });
}

// The chosen score, or its difference, of every layout.
function chosenValues(filter) {
  const { score, of, minus } = filter;
  const a = scoresOf(score, METHODS.indexOf(of), filter);
  if (!minus) return a;
  const b = scoresOf(score, METHODS.indexOf(minus), filter);
  return a.map((value, layout) => value - b[layout]);
}

// The layouts that pass all but the range, which the histogram shows; then those in the range, in order.
function select() {
  const filter = filterValues();
  const values = chosenValues(filter);
  const passing = range(0, COUNT).filter(passes(filter));
  const shown = passing.filter(inRange(filter, values));
  const sign = { layout: 0, worst: 1, best: -1 }[filter.order];
  if (sign) shown.sort((a, b) => compareValues(values[a], values[b], sign) || a - b);
  return { filter, values, passing, shown };
}

function passes(filter) {
  const { q, category, least, most } = filter;
  const [ofLayouts, ofBoxes] = [askedBands(filter, false), askedBands(filter, true)];
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const phrase = LAYOUTS.phrases.indexOf(category);
  const [from, to] = [bound(least, 0), bound(most, Infinity)];
  return (layout) =>
    objectCount(layout) >= from &&
    objectCount(layout) <= to &&
    inBands(ofLayouts, layout) &&
    (!ofBoxes.length || objectsOf(layout).some((object) => inBands(ofBoxes, object))) &&
    words.every((word) => HAY[layout].includes(word)) &&
    (phrase < 0 || objectsOf(layout).some((object) => LAYOUTS.phrase[object] === phrase));
}

function inRange({ low, high }, values) {
  if (low === "" && high === "") return () => true;
  const [from, to] = [bound(low, -Infinity), bound(high, Infinity)];
  return (layout) => values[layout] >= from && values[layout] <= to;
}

const bound = (text, otherwise) => (text === "" ? otherwise : Number(text));

// Layouts without a value come last in either order.
function compareValues(a, b, sign) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  return sign * (a - b);
}
