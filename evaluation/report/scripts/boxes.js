// Boxes over an image: a colour a phrase; dashed where the detector did not find the object in that image.

function drawBoxes(layout, method) {
  const colour = colourOf(layout);
  const rectangles = objectsOf(layout).flatMap((object) => {
    const [x, y, right, bottom] = LAYOUTS.box.subarray(4 * object, 4 * object + 4);
    const at = { x, y, width: right - x, height: bottom - y };
    const missed = method !== null && SCORES.instance_success && measuredOf("instance_success", method, object) === 0;
    return [svg("rect", { ...at, class: "halo" }), svg("rect", { ...at, class: missed ? `${colour(object)} missed` : colour(object) })];
  });
  return svg("svg", { class: "boxes", viewBox: `0 0 ${UNIT} ${UNIT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, rectangles);
}

// A picture of a strip has an eighth of its own width repeated on either side.
const GUTTER = 1 / 8;
const PITCH = 1 + 2 * GUTTER;

// One method's image of a layout: its part of the layout's strip.
function picture(layout, method, label) {
  const image = el("div", { class: "picture", role: "img", "aria-label": label });
  const width = PITCH * METHODS.length;
  image.style.backgroundImage = `url("${CONTENT.strips[layout]}")`;
  image.style.backgroundSize = `${100 * width}% 100%`;
  image.style.backgroundPosition = `${(100 * (GUTTER + PITCH * method)) / (width - 1)}% 0`;
  return image;
}

// What an image says when strips that should lie beside the page do not.
function watchStrip(layout) {
  const source = CONTENT.strips[layout];
  if (source.startsWith("data:")) return;
  const probe = new Image();
  probe.onerror = () => {
    find("lost").hidden = false;
    find("lost").textContent = `No image at ${decodeURIComponent(source)}: this page shows its images only beside the folder it was made with.`;
  };
  probe.src = source;
}
