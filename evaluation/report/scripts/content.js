// The content: columns of typed arrays over layouts and their objects, and the scores that follow from them.

const CONTENT = JSON.parse(find("content").textContent);
const METHODS = CONTENT.methods;
const MISSING = -32768;
const UNIT = 10000;

function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const LAYOUTS = {
  ...CONTENT.layouts,
  start: unpack(CONTENT.layouts.start, Int32Array),
  phrase: unpack(CONTENT.layouts.phrase, Uint32Array),
  box: unpack(CONTENT.layouts.box, Int16Array),
  span: unpack(CONTENT.layouts.span, Int32Array),
};
const COUNT = LAYOUTS.ids.length;
const OBJECTS = LAYOUTS.phrase.length;

// Ways to tell easy from hard: the band of every layout or, perBox, of every object; -1: none. `field` is that of the filter.
const FACETS = CONTENT.facets.map((facet) => ({ ...facet, field: `by-${facet.key}`, place: unpack(facet.place, Int16Array) }));

// Scores that were measured. Those of boxes are, of a layout, means over its boxes.
const SCORES = {};
for (const [name, score] of Object.entries(CONTENT.scores)) {
  const values = unpack(score.values, Int16Array);
  if (values.some((value) => value !== MISSING)) SCORES[name] = { ...score, values };
}

const objectsOf = (layout) => range(LAYOUTS.start[layout], LAYOUTS.start[layout + 1]);
const objectCount = (layout) => LAYOUTS.start[layout + 1] - LAYOUTS.start[layout];
const phraseOf = (object) => LAYOUTS.phrases[LAYOUTS.phrase[object]];

function range(start, stop) {
  return Array.from({ length: stop - start }, (_, place) => start + place);
}

function measuredOf(name, method, place) {
  const value = SCORES[name].values[method * (SCORES[name].perBox ? OBJECTS : COUNT) + place];
  return value === MISSING ? NaN : value / SCORES[name].unit;
}

// The mean over a layout's boxes, those in the bands that the filter asks for.
function meanOfBoxes(name, method, layout, asked) {
  let sum = 0;
  let count = 0;
  for (let object = LAYOUTS.start[layout]; object < LAYOUTS.start[layout + 1]; object++) {
    const value = measuredOf(name, method, object);
    if (!Number.isNaN(value) && inBands(asked, object)) (sum += value), count++;
  }
  return count ? sum / count : NaN;
}

// The bands that a filter asks for, of layouts or of boxes.
function askedBands(filter, perBox) {
  return FACETS.filter((facet) => facet.perBox === perBox && filter[facet.field] !== "").map((facet) => ({
    place: facet.place,
    band: Number(filter[facet.field]),
  }));
}

const inBands = (asked, number) => asked.every(({ place, band }) => place[number] === band);

const columns = new Map();

// A score of one method for every layout, under the filter's bands of boxes; NaN where there is none.
function scoresOf(name, method, filter) {
  const asked = SCORES[name].perBox ? askedBands(filter, true) : [];
  const key = `${name} ${method} ${FACETS.map((facet) => (facet.perBox && asked.length ? filter[facet.field] : ""))}`;
  if (!columns.has(key)) {
    const one = SCORES[name].perBox ? meanOfBoxes : measuredOf;
    columns.set(key, Float64Array.from({ length: COUNT }, (_, layout) => one(name, method, layout, asked)));
  }
  return columns.get(key);
}

// Boxes have a colour a phrase, in the order in which the layout names them.
function colourOf(layout) {
  const seen = [...new Set(objectsOf(layout).map(phraseOf))];
  return (object) => `c${seen.indexOf(phraseOf(object)) % 8}`;
}

// The caption, with the words that name a box in the box's colour.
function captionOf(layout) {
  const letters = Array.from(LAYOUTS.captions[layout]);
  const colour = colourOf(layout);
  const parts = [];
  let done = 0;
  for (const { start, stop, object } of spansOf(layout)) {
    if (start < done) continue;
    parts.push(letters.slice(done, start).join(""));
    parts.push(el("mark", { class: colour(object) }, letters.slice(start, stop).join("")));
    done = stop;
  }
  return [...parts, letters.slice(done).join("")];
}

function spansOf(layout) {
  return objectsOf(layout)
    .map((object) => ({ start: LAYOUTS.span[2 * object], stop: LAYOUTS.span[2 * object + 1], object }))
    .filter(({ start, stop }) => start >= 0 && stop > start)
    .sort((a, b) => a.start - b.start);
}

// The phrases of a layout with their colours, and how many boxes bear each.
function legendOf(layout) {
  const colour = colourOf(layout);
  const counts = new Map();
  for (const object of objectsOf(layout)) {
    const { count = 0, first = object } = counts.get(phraseOf(object)) ?? {};
    counts.set(phraseOf(object), { count: count + 1, first });
  }
  return [...counts].map(([phrase, { count, first }]) =>
    el("span", {}, el("i", { class: `key ${colour(first)}` }), count > 1 ? `${phrase} ×${count}` : phrase),
  );
}

const digits = (value) => (Number.isNaN(value) ? "–" : value.toFixed(3).replace(/^-0\.000$/, "0.000").replace("-", "−"));
const signed = (value) => (value >= 0.0005 ? `+${digits(value)}` : digits(value));
