// The page itself: choices in, chart and tables out.

const PAPER_WIDTH = 680;
const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};
const POINTING =
  "Point at a marker, or give the chart the focus and use the arrow keys: left and right along a curve, " +
  "up and down between curves.";
const AGGREGATED =
  "Over runs, each training pruned with each seed: the inter-quartile mean leaves out the best and the worst quarter " +
  "of them, the mean counts every algorithm on every task alike. Read off straight lines between each run's " +
  "sparsities; values below 0 count as 0.";
const SINGLE =
  "A marker is a cell: the mean return of its episodes. Lines run through the means over pruning seeds, from the " +
  "dense controller on.";
const BANDS =
  "Bands are 95% bootstrap intervals over runs and episodes: of the curves marked below, or of all where there are " +
  `no more than ${BANDS_UP_TO}. Far below random actions the axis is cut.`;

const { sections: SECTIONS, following: FOLLOWING } = tableSections();
let view = null;
let values = null;
const focused = { curve: -1, point: 0 };

function at(id) {
  return document.getElementById(id);
}

/** Show everything that follows from what is chosen. */
function draw() {
  view = currentView();
  at("view").textContent = view.title;
  at("shown").textContent = shownText();
  at("reading").textContent = `${view.mean ? AGGREGATED : SINGLE} ${BANDS}`;
  at("cell").replaceChildren(remark(POINTING));
  focused.curve = -1;
  paint();
  const methods = methodsChosen();
  for (const show of FOLLOWING) show(view, methods);
}

/** Draw the curves and their legend: as wide as there is room, or as `width` pixels. */
function paint(width) {
  const { traces, layout } = drawing(view, METHODS, chosen.marked, chosen.scale);
  Plotly.react(at("chart"), traces, { ...layout, width }, CONFIG);
  at("values").replaceChildren(...valuesTable());
}

function shownText() {
  const lines = [`${view.curves.length} of ${METHODS.length} curves shown.`];
  const names = view.lacking.map((method) => METHODS[method].label).join(", ");
  if (names) lines.push(`No curve over all controllers, for one lacks it or ends before the first sparsity: ${names}.`);
  if (view.height !== chosen.height) lines.push(`The ${HEIGHTS[view.height]} is all that there is here.`);
  return lines.join(" ");
}

/** The curves as numbers: the legend, and the chart for those who do not see it. */
function valuesTable() {
  const drawn = markers(at("chart"));
  const { dark } = palette();
  const names = view.curves.map((curve) => METHODS[curve.method].label);
  const button = (row) => {
    const { method } = view.curves[row];
    const pressed = { "aria-pressed": String(chosen.marked.has(method)), onclick: () => mark(method) };
    const picture = swatch(METHODS[method], drawn.get(method), dark);
    const named = { type: "button", class: "method", "data-method": method };
    return element("button", { ...named, ...pressed }, picture, names[row]);
  };
  const kind = HEIGHTS[view.height];
  const columns = SPARSITIES.map((sparsity) => {
    const read = view.curves.map((curve) => readOff(curve, sparsity));
    const digits = view.height === "return" ? 1 : 3;
    return { name: String(sparsity), values: read, text: (row) => fixed(read[row], digits) };
  });
  const caption = `${kind} by method and ${view.axis} sparsity, ${view.title}`;
  const first = { name: "method", values: names, node: button, left: true };
  values = makeTable(caption, [first, ...columns], values?.order());
  values.show([...names.keys()]);
  const note = `The ${kind} at each ${view.axis} sparsity, read off the curves; – where one ends before.`;
  return [remark(`${note} Press a method to mark its curve.`), values.root];
}

function mark(method) {
  if (!chosen.marked.delete(method)) chosen.marked.add(method);
  focused.curve = -1; // the curves come in another order now
  paint();
  document.querySelector(`[data-method="${method}"]`).focus();
}

// Pointing at cells, with the mouse or with the arrow keys.

function point(trace, place) {
  const cell = trace.customdata?.[place];
  const curve = view.curves.find(({ method }) => method === trace.meta.method);
  at("cell").replaceChildren(...(cell === undefined ? aggregateDetails(view, curve, place) : cellDetails(cell)));
}

function walk(event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const chart = at("chart");
  const curves = chart.data.flatMap((trace, number) => (trace.meta && trace.x.length ? [number] : []));
  if (event.key === "Escape") Plotly.Fx.unhover(chart);
  if (!steps[event.key] || !curves.length) return;
  event.preventDefault();
  const [across, along] = focused.curve < 0 ? [1, 0] : steps[event.key];
  focused.curve = (focused.curve + across + curves.length) % curves.length;
  const trace = chart.data[curves[focused.curve]];
  focused.point = Math.max(0, Math.min(focused.point + along, trace.x.length - 1));
  Plotly.Fx.hover(chart, [{ curveNumber: curves[focused.curve], pointNumber: focused.point }]);
  point(trace, focused.point);
  const [x, y] = [trace.text[focused.point], fixed(trace.y[focused.point], 3)];
  at("spoken").textContent = `${trace.name}: ${view.axis} sparsity ${x}, ${HEIGHTS[view.height]} ${y}`;
}

// Choices.

function fillOffers() {
  const found = offers(chosen.task);
  if (!found.some(({ id }) => id === chosen.offer)) chosen.offer = found[0].id;
  const option = ({ id, title }) => element("option", { value: id, selected: id === chosen.offer }, title);
  at("offer").replaceChildren(...found.map(option));
}

function radios(name, options) {
  return options.map(([value, label]) => {
    const change = () => {
      chosen[name] = value;
      draw();
    };
    const attributes = { type: "radio", name, value, checked: value === chosen[name], onchange: change };
    return element("label", {}, element("input", attributes), label);
  });
}

/** Checkboxes for one of a method's four names, where there is something to choose. */
function checkboxes(part) {
  const values = [...new Set(METHODS.map((method) => method[part]))];
  if (values.length < 2) return [];
  const leftOut = chosen.leftOut[part];
  const boxes = values.map((value) => {
    const change = ({ target }) => {
      if (target.checked) leftOut.delete(value);
      else leftOut.add(value);
      draw();
    };
    return element("input", { type: "checkbox", name: part, value, checked: true, onchange: change });
  });
  const flip = () => {
    const all = boxes.every((box) => box.checked);
    for (const box of boxes) {
      box.checked = !all;
      if (all) leftOut.add(box.value);
      else leftOut.delete(box.value);
    }
    draw();
  };
  const title = `${part[0].toUpperCase()}${part.slice(1)}`;
  const labels = boxes.map((box, place) => element("label", {}, box, values[place]));
  const named = { "aria-label": `${title}: all or none` };
  const button = element("button", { type: "button", onclick: flip, ...named }, "all / none");
  return [element("fieldset", { class: "chips" }, element("legend", {}, title), element("div", {}, ...labels), button)];
}

function buildChoices() {
  const tasks = [...new Set(CONTROLLERS.map((controller) => controller.task))].filter((task) => offers(task).length);
  const every = tasks.length > 1 ? [element("option", { value: "" }, `all ${tasks.length} tasks`)] : [];
  at("task").append(...every, ...tasks.map((task) => element("option", { value: task }, task)));
  chosen.task = at("task").value;
  fillOffers();
  at("task").addEventListener("change", () => {
    chosen.task = at("task").value;
    fillOffers();
    draw();
  });
  at("offer").addEventListener("change", () => {
    chosen.offer = at("offer").value;
    draw();
  });
  at("axis").append(...radios("axis", DATA.axes.map((axis) => [axis, axis])));
  at("scale").append(...radios("scale", Object.entries(SCALES)));
  at("height").append(...radios("height", [["normalised", "normalised"], ["return", "as it is"]]));
  at("names").append(...PARTS.flatMap(checkboxes));
  at("choices").addEventListener("submit", (event) => event.preventDefault());
}

// The frame: what was run, where what is, light and dark, paper.

function buildFrame() {
  const failed = CELLS.error.filter(Boolean).length;
  const tasks = new Set(CONTROLLERS.map((controller) => controller.task)).size;
  const count = (number, name) => `${whole(number)} ${name}${number === 1 ? "" : "s"}`;
  const facts = [
    `${count(CONTROLLERS.length, "controller")} on ${count(tasks, "task")}`,
    count(METHODS.length, "method"),
    `${whole(ALL_CELLS.length - failed)} of ${count(DATA.planned, "cell")} computed`,
  ];
  if (failed) facts.push(`${whole(failed)} failed`);
  at("facts").textContent = facts.join(" · ");
  at("tables").append(...SECTIONS);
  const { command, versions, config } = DATA.made;
  const scrolled = (name, text) => [
    element("h3", {}, name),
    element("pre", { tabindex: "0", role: "region", "aria-label": name }, text),
  ];
  if (command) at("provenance").append(...scrolled("Command", command));
  if (versions) at("provenance").append(element("h3", {}, "Versions"), listed(Object.entries(versions)));
  if (config) at("provenance").append(...scrolled("Config", config));
  if (!document.querySelector("#figures figure")) at("figures").remove();
  if (!at("provenance").children.length) at("made").remove();
  for (const { id, firstElementChild: heading } of document.querySelectorAll("main section")) {
    at("contents").append(element("li", {}, element("a", { href: `#${id}` }, heading.textContent)));
  }
}

function isDark() {
  return document.documentElement.dataset.theme === "dark";
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  at("theme").setAttribute("aria-pressed", String(dark));
}

function followTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const change = (dark, width) => {
    setTheme(dark);
    paint(width);
  };
  setTheme(system.matches);
  at("theme").addEventListener("click", () => change(!isDark()));
  system.addEventListener("change", () => change(system.matches));
  let before = false;
  addEventListener("beforeprint", () => {
    before = isDark();
    change(false, PAPER_WIDTH);
  });
  addEventListener("afterprint", () => change(before));
}

/** Unpack plotly and run it. */
async function loadPlotly() {
  const packed = Uint8Array.from(atob(at("plotly").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(element("script", {}, await new Response(unpacked).text()));
}

async function start() {
  buildChoices();
  buildFrame();
  await loadPlotly();
  followTheme();
  draw();
  const chart = at("chart");
  for (const event of ["plotly_hover", "plotly_click"]) {
    chart.on(event, ({ points: [{ data, pointNumber }] }) => point(data, pointNumber));
  }
  chart.addEventListener("keydown", walk);
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  at("shown").textContent = `The curves cannot be drawn in this browser: ${error.message}`;
});
