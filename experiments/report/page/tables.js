// Tables that sort and can be copied as CSV. A row is a number: its place in the columns' values.

const ROWS_AT_FIRST = 50;
const COLLATOR = new Intl.Collator("en", { numeric: true });

/** An element with attributes and children. Text only ever enters as text nodes, never as markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** The rows in the order of a column's values; what is missing comes last either way. */
function sorted(rows, values, descending) {
  const sign = descending ? -1 : 1;
  const missing = (row) => values[row] === null || values[row] === undefined;
  return [...rows].sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const [x, y] = [values[a], values[b]];
    return sign * (typeof x === "number" ? x - y : COLLATOR.compare(x, y));
  });
}

/**
 * Rows as CSV (RFC 4180, lines ended by a line feed), every column under its own name and with all its digits. A text
 * that a spreadsheet would take for a formula has an apostrophe in front.
 */
function csv(columns, rows) {
  const quoted = (value) => {
    const formula = typeof value === "string" && /^[=+\-@\t\r]/.test(value);
    const text = value === null || value === undefined ? "" : `${formula ? "'" : ""}${value}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map((row) => columns.map((column) => quoted(column.values[row])).join(","));
  return [columns.map((column) => quoted(column.name)).join(","), ...lines, ""].join("\n");
}

/** Put text on the clipboard; the old way where a browser keeps the new one from pages on disk. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { class: "hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("this browser keeps pages from copying");
  }
}

function fixed(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
}

function whole(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en").replace("-", "−");
}

/** Two digits that count, as times are shown. */
function brief(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.001) return "< 0.001";
  return value >= 10 ? whole(Math.round(value)) : String(Number(value.toPrecision(2)));
}

/** A normalised return or an R², whose depths below −10 say no more than that. */
function score(value, digits = 3) {
  return value !== null && value < -10 ? "< −10" : fixed(value, digits);
}

/**
 * A table with its buttons. Columns: `name` and `values` go into the CSV, where `csvOnly` is set into nothing else;
 * `label` is the heading, `text(row)` or `node(row)` what a cell shows, `left` how it is aligned. Give the rows to
 * `show`, in their own order, which holds until the reader sorts; `order` says how, for a table that takes the place.
 */
function makeTable(caption, columns, start = null) {
  const seen = columns.filter((column) => !column.csvOnly);
  const body = element("tbody");
  const count = element("span");
  const said = element("span", { role: "status", "aria-live": "polite" });
  const more = element("button", { type: "button", onclick: () => fill(true) });
  let rows = [];
  const first = columns.find((column) => column.name === start?.name);
  let order = first ? { column: first, descending: start.descending } : null;

  const ordered = () => (order ? sorted(rows, order.column.values, order.descending) : rows);
  const heads = seen.map((column) => {
    const button = element("button", { type: "button", onclick: () => sortBy(column) }, column.label ?? column.name);
    return element("th", { scope: "col", class: column.left && "left" }, button);
  });

  function sortBy(column) {
    order = { column, descending: order?.column === column && !order.descending };
    fill(more.hidden);
  }

  function line(row) {
    const cells = seen.map((column, place) => {
      const content = column.node ? column.node(row) : column.text ? column.text(row) : (column.values[row] ?? "–");
      const style = [column.left && "left", column.long && "long"].filter(Boolean).join(" ") || null;
      return element(place ? "td" : "th", { class: style, scope: place ? null : "row" }, content);
    });
    return element("tr", {}, ...cells);
  }

  function fill(all) {
    seen.forEach((column, place) => {
      if (column !== order?.column) heads[place].removeAttribute("aria-sort");
      else heads[place].setAttribute("aria-sort", order.descending ? "descending" : "ascending");
    });
    const now = ordered();
    const some = all || now.length <= ROWS_AT_FIRST ? now : now.slice(0, ROWS_AT_FIRST);
    body.replaceChildren(...some.map(line));
    more.hidden = some.length === now.length;
    more.textContent = `Show all ${whole(now.length)}`;
    count.textContent = `${whole(some.length)}${more.hidden ? "" : ` of ${whole(now.length)}`} rows`;
  }

  async function copied() {
    said.textContent = "";
    try {
      await copy(csv(columns, ordered()));
      said.textContent = `Copied ${whole(rows.length)} rows`;
    } catch (error) {
      said.textContent = `Not copied: ${error.message}`;
    }
  }

  const table = element("table", {}, element("caption", { class: "hidden" }, caption));
  table.append(element("thead", {}, element("tr", {}, ...heads)), body);
  const copier = element("button", { type: "button", onclick: copied }, "Copy as CSV");
  const root = element("div", {}, element("div", { class: "bar" }, copier, more, count, said));
  root.append(element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption }, table));
  return {
    root,
    order: () => order && { name: order.column.name, descending: order.descending },
    show(given) {
      rows = given;
      fill(false);
    },
  };
}

/** Columns as the page's data has them, with `x_low`, `x_high` and `x_open` drawn into `x`. */
function readable(columns) {
  const named = new Map(columns.map((column) => [column.name, column]));
  const extra = (name) => /_(low|high|open)$/.test(name) && named.has(name.replace(/_(low|high|open)$/, ""));
  return columns.map((column) => {
    const { name, values } = column;
    const label = name.replaceAll("_", " ");
    if (extra(name)) return { ...column, csvOnly: true };
    if (values.some((value) => typeof value === "string")) return { ...column, label, left: true };
    const integral = values.every((value) => value === null || Number.isInteger(value));
    const plain = name.includes("seconds") ? brief : integral ? whole : (value) => score(value, 2);
    const [low, high, open] = ["low", "high", "open"].map((end) => named.get(`${name}_${end}`)?.values);
    const checked = /^(safe|settling)_/.test(name) ? named.get("stability_starts")?.values : null;
    const text = (row) => {
      if (values[row] === null && checked && checked[row] !== null) return "none"; // not even the dense loop
      const shown = `${open?.[row] ? "≥ " : ""}${plain(values[row])}`;
      return low && low[row] !== null ? `${shown} [${plain(low[row])}, ${plain(high[row])}]` : shown;
    };
    return { ...column, label, text };
  });
}
