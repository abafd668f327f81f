// The page: what the reader chooses, and everything that follows from it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const { methods: METHODS, controllers: CONTROLLERS, panels: PANELS, cells: CELLS } = DATA;
const ALL_CELLS = CELLS.method.map((_, cell) => cell);
const PARTS = ["grouping", "importance", "allocation", "recovery"];
const SPARSITIES = [...new Set(CELLS.sparsity_asked)].filter((value) => value > 0).sort((a, b) => a - b);
const PAPER_WIDTH = 680;
const chosen = {
  task: "",
  controller: "",
  axis: DATA.axes[0],
  height: "normalised",
  left_out: Object.fromEntries(PARTS.map((part) => [part, new Set()])),
  marked: new Set(),
};
const at = (id) => document.getElementById(id);
const pick = (values) => ALL_CELLS.map((cell) => values(cell));
const nameOf = (cell) => (CELLS.method[cell] === null ? "dense" : METHODS[CELLS.method[cell]].label);
const seconds = (cell) => ["plan", "surgery", "recovery"].reduce((sum, stage) => sum + (CELLS[`${stage}_seconds`][cell] ?? 0), 0);

// ---- what is chosen ----

function methodsChosen() {
  const kept = (method) => PARTS.every((part) => !chosen.left_out[part].has(method[part]));
  return new Set(METHODS.flatMap((method, number) => (kept(method) ? [number] : [])));
}

/** What the reader can look at under a task: the means first, then each controller. */
function offers(task) {
  const fits = (controller) => !task || controller.task === task;
  const means = DATA.means.flatMap((mean, number) => ((mean.task ?? "") === task || (task && mean.task === task) ? [{ id: `mean ${number}`, title: `Mean of ${mean.controllers} controllers`, mean }] : []));
  const panels = PANELS.flatMap((panel, number) => {
    const controller = CONTROLLERS[panel.controller];
    if (!fits(controller) || !panel.curves.length) return [];
    const title = panel.only === null ? controller.name : `${controller.name}, only ${panel.only}`;
    return [{ id: `panel ${number}`, title, panel }];
  });
  return [...means, ...panels];
}

/** The curves that are to be drawn, by the names of the axes: `x`, `y`, `low`, `high`, and the points on them. */
function currentView() {
  const found = offers(chosen.task);
  const offer = found.find(({ id }) => id === chosen.controller) ?? found[0];
  const methods = methodsChosen();
  if (offer.mean) return meanView(offer, methods);
  return panelView(offer, methods);
}

function meanView({ title, mean }, methods) {
  const own = mean.curves.filter((curve) => curve.axis === chosen.axis);
  const curves = own.filter((curve) => methods.has(curve.method)).map(({ method, x, normalised: y, normalised_low: low, normalised_high: high }) => ({ method, x, y, low, high, points: { x, y, cells: null, most: 7 } }));
  const lacking = [...methods].filter((method) => !own.some((curve) => curve.method === method)).map((method) => METHODS[method].label);
  const tasks = new Set(CONTROLLERS.map((controller) => controller.task)).size;
  return { title: `${title}, ${mean.task ?? `${tasks} task${tasks > 1 ? "s" : ""}`}`, axis: chosen.axis, height: "normalised", curves, dense: 1, random: 0, lacking, mean };
}

function panelView({ panel }, methods) {
  const controller = CONTROLLERS[panel.controller];
  const height = panel.curves.some((curve) => curve.normalised) ? chosen.height : "return";
  const { dense, random } = panel;
  const scaled = (value) => (height === "return" ? value : dense > random ? (value - random) / (dense - random) : null);
  const column = height === "return" ? CELLS.mean_return : CELLS.normalised_return;
  const cells = cellsOf([panel]);
  const curves = panel.curves
    .filter((curve) => methods.has(curve.method) && curve[height])
    .map((curve) => {
      const order = sorted(curve[chosen.axis].map((_, place) => place), curve[chosen.axis], false);
      const along = (values, start) => [...(dense === null ? [] : [start]), ...order.map((place) => values[place])];
      const start = scaled(dense);
      const line = { x: along(curve[chosen.axis], 0), y: along(curve[height], start), low: along(curve[`${height}_low`], start), high: along(curve[`${height}_high`], start) };
      const own = sorted(cells.filter((cell) => CELLS.method[cell] === curve.method && !CELLS.error[cell]), CELLS[`sparsity_${chosen.axis}`], false);
      return { method: curve.method, ...line, points: { x: own.map((cell) => CELLS[`sparsity_${chosen.axis}`][cell]), y: own.map((cell) => column[cell]), cells: own, most: 0 } };
    });
  const title = `${controller.name} on ${controller.task}${panel.only === null ? "" : `, only ${panel.only} pruned`}`;
  return { title, axis: chosen.axis, height, curves, dense: dense === null ? null : scaled(dense), random: random === null ? null : scaled(random), lacking: [], panel };
}

/** Cells of some panels: those of its controller and scope, and its dense controller. */
function cellsOf(panels) {
  const scopes = new Set(panels.map((panel) => `${panel.controller} ${panel.only}`));
  return ALL_CELLS.filter((cell) => scopes.has(`${CELLS.controller[cell]} ${CELLS.method[cell] === null ? panels.find((panel) => panel.controller === CELLS.controller[cell])?.only : CELLS.only[cell]}`));
}

// ---- what a cell is ----

function listed(pairs) {
  return element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function cellDetails(cell) {
  const get = (name) => CELLS[name][cell];
  const controller = CONTROLLERS[get("controller")];
  const facts = [
    ["sparsity asked", fixed(get("sparsity_asked"), 2)],
    ["sparsity, deployed", fixed(get("sparsity_deployed"), 4)],
    ["sparsity, total", fixed(get("sparsity_total"), 4)],
    ["normalised return", score(get("normalised_return"))],
    ["return, mean", fixed(get("mean_return"), 2)],
    ["return, std", fixed(get("std_return"), 2)],
    ["integrity", score(get("integrity"))],
    ["parameters left", whole(get("params_total"))],
    ["parameters, deployed", whole(get("params_deployed"))],
  ];
  if (get("seed") !== null) facts.push(["seed", get("seed")]);
  const times = ["plan", "surgery", "recovery", "evaluate"].map((stage) => [`${stage}, s`, brief(get(`${stage}_seconds`))]);
  const parts = DATA.widths[get("widths")] ?? [];
  const head = ["component", "widths before → after"].map((text) => element("th", { scope: "col", class: "left" }, text));
  const lines = controller.components.map((component, place) => {
    const side = (text) => element("span", { class: "side" }, text);
    const widths = [side(component.widths.join("-")), " ", side(`→ ${parts[place]?.[0].join("-") ?? "–"}`)];
    const name = element("th", { scope: "row", class: "left" }, component.name, component.deployed ? "" : element("small", {}, " not deployed"));
    return element("tr", {}, name, element("td", { class: "left" }, ...widths));
  });
  const returns = CELLS.returns[cell];
  return [
    element("p", {}, element("strong", {}, nameOf(cell)), ` · ${controller.name} on ${controller.task}${get("only") === null ? "" : `, only ${get("only")}`}`),
    listed(facts),
    element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines)),
    element("h4", {}, `Returns of ${returns.length} episodes, from seed ${get("episode_seed")} on`),
    element("p", { class: "episodes" }, returns.map((value) => fixed(value, Math.abs(value) < 1000 ? 1 : 0)).join(", ")),
    element("h4", {}, "Time"),
    listed(times),
  ];
}

function meanDetails(curve, place, view) {
  return [
    element("p", {}, element("strong", {}, METHODS[curve.method].label), ` · ${view.title}`),
    listed([
      [`${view.axis} sparsity`, fixed(curve.x[place], 3)],
      ["normalised return", fixed(curve.y[place], 3)],
      ["95% interval", `${fixed(curve.low[place], 3)} to ${fixed(curve.high[place], 3)}`],
    ]),
    element("p", { class: "remark" }, "Choose one controller to see its cells."),
  ];
}

// ---- drawing ----

let view = null;

/** Draw everything that follows from what is chosen; as wide as there is room, or as `width` pixels. */
function draw(width) {
  view = currentView();
  const chart = at("chart");
  const { traces, layout } = drawing(view, METHODS, chosen.marked);
  layout.width = width;
  at("view").textContent = view.title;
  at("shown").textContent = shownText();
  at("reading").textContent = reading();
  at("cell").replaceChildren(element("p", { class: "remark" }, "Point at a marker, or give the chart the focus and use the arrow keys: left and right along a curve, up and down between curves."));
  Plotly.react(chart, traces, layout, { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });
  drawValues();
  drawChosenTables();
}

function shownText() {
  const lines = [`${view.curves.length} of ${METHODS.length} curves shown.`];
  if (view.lacking.length) lines.push(`A controller lacks, so there is no mean of: ${view.lacking.join(", ")}.`);
  if (view.height !== chosen.height) lines.push("Only returns or only normalised returns can be drawn here.");
  return lines.join(" ");
}

function reading() {
  const band = `Bands, with up to ${BANDS_UP_TO} curves or on those that are marked in the table below, are 95% bootstrap intervals over episodes and pruning seeds.`;
  const what = view.mean
    ? "Mean over the controllers, read off straight lines between each one's sparsities as far as all of them go; values below 0 count as 0."
    : "A marker is a cell: the mean return of its episodes. Lines run through the means over pruning seeds, from the dense controller on.";
  return `${what} ${band} Far below random actions the axis is cut.`;
}

/** The curves as numbers: the legend, and the chart for those who do not see it. */
function drawValues() {
  const drawn = markers(at("chart"));
  const { dark } = palette();
  const names = view.curves.map((curve) => METHODS[curve.method].label);
  const button = (row) => {
    const { method } = view.curves[row];
    const toggle = () => {
      if (!chosen.marked.delete(method)) chosen.marked.add(method);
      redrawKeeping(`[data-method="${method}"]`);
    };
    return element("button", { type: "button", class: "method", "data-method": method, "aria-pressed": String(chosen.marked.has(method)), onclick: toggle }, swatch(METHODS[method], drawn.get(method), dark), names[row]);
  };
  const digits = view.height === "return" ? 1 : 3;
  const columns = SPARSITIES.map((sparsity) => {
    const values = view.curves.map((curve) => readOff(curve.x, curve.y, sparsity));
    return { name: String(sparsity), values, text: (row) => fixed(values[row], digits) };
  });
  const kind = view.height === "return" ? "return" : "normalised return";
  const table = makeTable(`${kind} by method and ${view.axis} sparsity, ${view.title}`, [{ name: "method", values: names, node: button, left: true }, ...columns]);
  const remark = element("p", { class: "remark" }, `${kind[0].toUpperCase()}${kind.slice(1)} at ${view.axis} sparsities, read off the curves above; – where a curve does not reach. Press a method to mark its curve.`);
  table.show(names.map((_, row) => row));
  at("values").replaceChildren(remark, table.root);
}

function redrawKeeping(selector) {
  draw();
  document.querySelector(selector)?.focus();
}

// ---- pointing ----

const pointing = { trace: -1, point: 0 };

function details(trace, point) {
  const cell = trace.customdata?.[point];
  const content = cell === undefined || cell === null ? meanDetails(view.curves.find((curve) => curve.method === trace.meta.method), point, view) : cellDetails(cell);
  at("cell").replaceChildren(...content);
}

function walk(event) {
  const traces = at("chart").data.flatMap((trace, number) => (trace.meta?.points && trace.x.length ? [number] : []));
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (event.key === "Escape") return Plotly.Fx.unhover(at("chart"));
  if (!steps[event.key] || !traces.length || event.target !== at("chart")) return undefined;
  event.preventDefault();
  const [across, along] = pointing.trace < 0 ? [0, 0] : steps[event.key];
  pointing.trace = (Math.max(pointing.trace, 0) + across + traces.length) % traces.length;
  const trace = at("chart").data[traces[pointing.trace]];
  pointing.point = Math.min(Math.max(pointing.point + along, 0), trace.x.length - 1);
  Plotly.Fx.hover(at("chart"), [{ curveNumber: traces[pointing.trace], pointNumber: pointing.point }]);
  details(trace, pointing.point);
  at("spoken").textContent = `${trace.name}, ${view.axis} sparsity ${fixed(trace.x[pointing.point], 3)}, ${view.height === "return" ? "return" : "normalised return"} ${fixed(trace.y[pointing.point], 3)}`;
  return undefined;
}

// ---- tables ----

const following = [];

function section(id, title, ...content) {
  return element("section", { id, "aria-labelledby": `${id}-title`, tabindex: "-1" }, element("h2", { id: `${id}-title` }, title), ...content);
}

function cellColumns() {
  const controller = pick((cell) => CONTROLLERS[CELLS.controller[cell]].name);
  const column = (name, label, show, extra = {}) => ({ name, label, values: CELLS[name], text: (cell) => show(CELLS[name][cell]), ...extra });
  const silent = (name, values) => ({ name, values, csvOnly: true });
  const several = new Set(CELLS.seed.filter((seed) => seed !== null)).size > 1;
  const alone = CELLS.only.some((only) => only !== null);
  const part = (name) => silent(name, pick((cell) => (CELLS.method[cell] === null ? null : METHODS[CELLS.method[cell]][name])));
  const spent = pick((cell) => (CELLS.error[cell] ? null : seconds(cell)));
  return {
    identity: [
      { name: "controller", values: controller, left: true },
      silent("task", pick((cell) => CONTROLLERS[CELLS.controller[cell]].task)),
      { name: "method", values: pick(nameOf), left: true },
      ...PARTS.map(part),
      { name: "only", values: CELLS.only, left: true, csvOnly: !alone },
      { name: "seed", values: CELLS.seed, csvOnly: !several },
      column("sparsity_asked", "asked", (value) => fixed(value, 2)),
    ],
    outcome: [
      column("sparsity_deployed", "deployed", (value) => fixed(value, 3)),
      column("sparsity_total", "total", (value) => fixed(value, 3)),
      column("normalised_return", "normalised", score),
      column("mean_return", "return", (value) => fixed(value, 1)),
      column("std_return", "std", (value) => fixed(value, 1)),
      silent("episodes", CELLS.returns.map((returns) => returns.length)),
      column("integrity", "integrity", score),
      column("params_deployed", "parameters deployed", whole),
      silent("params_total", CELLS.params_total),
      silent("macs_deployed", CELLS.macs_deployed),
      { name: "seconds", values: spent, text: (cell) => brief(spent[cell]), title: "plan, surgery and recovery" },
      ...["plan", "surgery", "recovery", "evaluate"].map((stage) => silent(`${stage}_seconds`, CELLS[`${stage}_seconds`])),
    ],
  };
}

function buildTables() {
  const sections = [];
  for (const { name, title, remark, chosen: follows, columns } of DATA.tables) {
    const table = makeTable(title, readable(columns));
    const rows = columns[0].values.map((_, row) => row);
    const values = (wanted) => columns.find((column) => column.name === wanted)?.values;
    // A row without a task is a mean over all controllers.
    const shown = (row, owners) => (values("task")[row] === null ? view.mean && !view.mean.task : owners.has(`${values("controller")[row]} ${values("task")[row]}`));
    if (follows) following.push(({ owners, labels }) => table.show(rows.filter((row) => labels.has(values("method")[row]) && shown(row, owners))));
    else table.show(rows);
    sections.push(section(name, title, ...(follows ? [element("p", { class: "remark" }, "The rows of what is chosen above.")] : []), table.root, element("p", { class: "remark" }, remark)));
  }
  const { identity, outcome } = cellColumns();
  const cells = makeTable("Cells", [...identity, ...outcome]);
  following.push(({ panels, labels }) => cells.show(cellsOf(panels).filter((cell) => !CELLS.error[cell] && (CELLS.method[cell] === null || labels.has(nameOf(cell))))));
  sections.push(section("cells", "Cells", element("p", { class: "remark" }, "The cells of what is chosen above."), cells.root));
  const failed = ALL_CELLS.filter((cell) => CELLS.error[cell]);
  if (failed.length) {
    const table = makeTable("Cells that failed", [...identity, { name: "error", values: CELLS.error, left: true, long: true }]);
    table.show(failed);
    sections.push(section("failed", "Cells that failed", element("p", {}, "The next run of the sweep tries them again."), table.root));
  }
  const lacking = DATA.planned - ALL_CELLS.length;
  if (lacking > 0) sections.push(section("missing", "Cells not computed yet", ...missingParts(lacking)));
  at("tables").replaceChildren(...sections);
}

function missingParts(lacking) {
  if (!DATA.missing) return [element("p", {}, `${whole(lacking)}. The store knows how many, and the config beside it does not say which.`)];
  const names = ["controller", "task", "method", "only", "sparsity asked", "seed"];
  const columns = names.map((name, place) => ({ name, values: DATA.missing.map((cell) => cell[place]), left: place < 4 }));
  const table = makeTable("Cells not computed yet", columns);
  table.show(DATA.missing.map((_, row) => row));
  return [table.root];
}

function drawChosenTables() {
  const panels = view.mean ? PANELS.filter((panel) => panel.only === null && (!view.mean.task || CONTROLLERS[panel.controller].task === view.mean.task)) : [view.panel];
  const owners = new Set(panels.map(({ controller }) => `${CONTROLLERS[controller].name} ${CONTROLLERS[controller].task}`));
  const labels = new Set([...methodsChosen()].map((method) => METHODS[method].label));
  for (const show of following) show({ panels, owners, labels });
}

// ---- choices ----

function fillControllers() {
  const found = offers(chosen.task);
  if (!found.some(({ id }) => id === chosen.controller)) chosen.controller = found[0].id;
  at("controller").replaceChildren(...found.map(({ id, title }) => element("option", { value: id, selected: id === chosen.controller }, title)));
}

function radios(name, options) {
  return options.map(([value, label]) => {
    const change = () => {
      chosen[name] = value;
      draw();
    };
    return element("label", {}, element("input", { type: "radio", name, value, checked: value === chosen[name], onchange: change }), label);
  });
}

/** Checkboxes for one of a method's four names, where there is something to choose. */
function chips(part) {
  const values = [...new Set(METHODS.map((method) => method[part]))];
  if (values.length < 2) return [];
  const boxes = values.map((value) => {
    const change = (event) => {
      if (event.target.checked) chosen.left_out[part].delete(value);
      else chosen.left_out[part].add(value);
      draw();
    };
    return element("input", { type: "checkbox", name: part, value, checked: true, onchange: change });
  });
  const all = () => {
    const every = boxes.every((box) => box.checked);
    chosen.left_out[part] = new Set(every ? values : []);
    for (const box of boxes) box.checked = !every;
    draw();
  };
  const button = element("button", { type: "button", onclick: all, "aria-label": `All or none of ${part}` }, "all / none");
  const labels = boxes.map((box, place) => element("label", {}, box, values[place]));
  return [element("fieldset", { class: "chips" }, element("legend", {}, part[0].toUpperCase() + part.slice(1)), element("div", {}, ...labels), button)];
}

function buildChoices() {
  const tasks = [...new Set(CONTROLLERS.map((controller) => controller.task))].filter((task) => offers(task).length);
  const first = tasks.length > 1 ? [element("option", { value: "" }, `all ${tasks.length} tasks`)] : [];
  if (tasks.length === 1) [chosen.task] = tasks;
  at("task").append(...first, ...tasks.map((task) => element("option", { value: task }, task)));
  at("task").addEventListener("change", (event) => {
    chosen.task = event.target.value;
    fillControllers();
    draw();
  });
  at("controller").addEventListener("change", (event) => {
    chosen.controller = event.target.value;
    draw();
  });
  at("axis").append(...radios("axis", DATA.axes.map((axis) => [axis, axis])));
  at("height").append(...radios("height", [["normalised", "normalised"], ["return", "as it is"]]));
  at("names").append(...PARTS.flatMap(chips));
  at("choices").addEventListener("submit", (event) => event.preventDefault());
  fillControllers();
}

// ---- the rest ----

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  at("theme").setAttribute("aria-pressed", String(dark));
}

function buildFrame() {
  const failed = CELLS.error.filter(Boolean).length;
  const tasks = new Set(CONTROLLERS.map((controller) => controller.task)).size;
  const counted = (count, name) => `${whole(count)} ${name}${count === 1 ? "" : "s"}`;
  const facts = [`${counted(CONTROLLERS.length, "controller")} on ${counted(tasks, "task")}`, counted(METHODS.length, "method"), `${whole(ALL_CELLS.length - failed)} of ${counted(DATA.planned, "cell")} computed${failed ? `, ${failed} failed` : ""}`];
  at("facts").textContent = facts.join(" · ");
  const { command, versions, config } = DATA.made;
  const made = [];
  if (command) made.push(element("h3", {}, "Command"), element("pre", { tabindex: "0" }, command));
  if (versions) made.push(element("h3", {}, "Versions"), listed(Object.entries(versions)));
  if (config) made.push(element("h3", {}, "Config"), element("pre", { tabindex: "0" }, config));
  if (!made.length) made.push(element("p", {}, "Neither the config nor the versions lie beside the store."));
  at("provenance").replaceChildren(...made);
  if (!document.querySelector("#figures figure")) at("figures").remove();
  const sections = [...document.querySelectorAll("main section")];
  at("contents").append(...sections.map((entry) => element("li", {}, element("a", { href: `#${entry.id}` }, entry.querySelector("h2").textContent))));
  const system = matchMedia("(prefers-color-scheme: dark)");
  theme(system.matches);
  at("theme").addEventListener("click", () => {
    theme(document.documentElement.dataset.theme !== "dark");
    draw();
  });
  system.addEventListener("change", () => {
    theme(system.matches);
    draw();
  });
  let dark = false;
  addEventListener("beforeprint", () => {
    dark = document.documentElement.dataset.theme === "dark";
    theme(false);
    draw(PAPER_WIDTH);
  });
  addEventListener("afterprint", () => {
    theme(dark);
    draw();
  });
}

/** Unpack plotly and run it. */
async function loadPlotly() {
  const packed = Uint8Array.from(atob(at("plotly").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const code = await new Response(unpacked).text();
  document.head.append(element("script", {}, code));
}

async function start() {
  buildChoices();
  buildTables();
  buildFrame();
  await loadPlotly();
  draw();
  const chart = at("chart");
  chart.on("plotly_hover", ({ points: [point] }) => details(point.data, point.pointNumber));
  chart.on("plotly_click", ({ points: [point] }) => details(point.data, point.pointNumber));
  chart.addEventListener("keydown", walk);
  document.documentElement.dataset.ready = "";
}

start();
