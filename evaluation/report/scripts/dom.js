"use strict";
// Elements. What comes from the content goes through here and becomes text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";
const find = (id) => document.getElementById(id);

function fillIn(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null));
  return node;
}

const el = (name, attributes = {}, ...children) => fillIn(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) => fillIn(document.createElementNS(SVG, name), attributes, children);
// A name that may be broken after its underscores.
const breakable = (name) => name.split(/(?<=_)/).flatMap((part) => [part, el("wbr")]);
const option = (value, text = value) => el("option", { value }, text);

// An id that an input hands back as text may be none of the choices: then the first stands.
function choose(select, value) {
  select.value = value;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}
