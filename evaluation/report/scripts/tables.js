// The tables: a head sorts by its column, down, up, and back to the order of the file.

function showTables(place) {
  CONTENT.tables.forEach((table, number) => place.append(tableCard(table, number === 0)));
}

function tableCard(table, first) {
  const uri = `data:text/csv;charset=utf-8,${encodeURIComponent(table.csv)}`;
  const keep = el("a", { class: "keep", href: uri, download: `${table.name}.csv` }, "CSV");
  return el(
    "article",
    { id: `table-${table.name}`, class: "card" },
    el("h2", {}, ...inline(table.title), keep),
    table.views.map(tableView),
    notesOf(table.notes, first || table.notes.length < 4),
  );
}

function tableView({ lead, heads, numeric, rows }) {
  const body = el("tbody", {}, rows.map((row) => tableRow(row, numeric)));
  const buttons = heads.map((head, column) =>
    el("th", { scope: "col", class: numeric[column] && "number" }, el("button", { type: "button", "aria-label": head ? null : `Column ${column + 1}` }, ...inline(head))),
  );
  buttons.forEach((head, column) => {
    head.firstChild.addEventListener("click", () => sortBy(body, buttons, column));
  });
  const table = el("table", {}, el("thead", {}, el("tr", {}, buttons)), body);
  return [
    lead && el("p", { class: "lead" }, ...inline(lead)),
    rows.length > 20 && narrowing(body),
    el("div", { class: rows.length > 20 ? "scroll long" : "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, table),
  ].filter(Boolean);
}

function tableRow(row, numeric) {
  const cells = row.map((cell, column) => {
    const name = column ? "td" : "th";
    const node = el(name, { class: numeric[column] && "number", scope: column ? null : "row" }, ...cellParts(cell, numeric[column]));
    // An empty cell, and a number that was not measured, come last in either order.
    node.sortKey = numeric[column] ? cell.sort ?? null : cell.text ?? null;
    return node;
  });
  return el("tr", {}, cells);
}

// The value, and after it, fainter, its error and what is in brackets.
function cellParts({ text = "", error, mark, beside, bold, sort }, numeric) {
  const value = sort < 0 && text.startsWith("-") ? `−${text.slice(1)}` : text;
  return [
    bold ? el("strong", {}, value) : numeric ? el("span", {}, value) : inline(value),
    error && el("span", { class: "faint" }, ` ± ${error}`),
    mark && el("sup", {}, mark),
    beside && el("span", { class: "faint" }, ` [${beside}]`),
  ].flat().filter(Boolean);
}

// The little of Markdown that tables and notes use: code and bold.
function inline(text) {
  return text
    .split(/(`[^`]+`|\*\*[^*]+\*\*)/)
    .filter(Boolean)
    .map((part) => {
      if (part.length > 2 && part.startsWith("`")) return el("code", {}, part.slice(1, -1));
      if (part.length > 4 && part.startsWith("**")) return el("strong", {}, part.slice(2, -2));
      return part;
    });
}

function sortBy(body, heads, column) {
  const rows = [...body.rows];
  rows.forEach((row, place) => (row.place ??= place));
  const order = { none: "ascending", ascending: "descending", descending: "none" }[heads[column].ariaSort ?? "none"];
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  if (order !== "none") heads[column].setAttribute("aria-sort", order);
  const sign = order === "descending" ? -1 : 1;
  const key = (row) => row.cells[column]?.sortKey ?? null;
  rows.sort((a, b) => (order === "none" ? 0 : compareKeys(key(a), key(b), sign)) || a.place - b.place);
  body.append(...rows);
}

function compareKeys(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

function narrowing(body) {
  const narrow = ({ target }) => {
    const words = target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  };
  return el("input", { type: "search", class: "narrow", placeholder: "Rows with these words", "aria-label": "Rows with these words", input: narrow });
}

function notesOf(notes, open) {
  if (!notes.length) return null;
  return el("details", { class: "notes", open }, el("summary", {}, "How to read and to reproduce it"), el("ul", {}, notes.map((note) => el("li", {}, ...inline(note)))));
}
