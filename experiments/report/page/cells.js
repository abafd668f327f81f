// Cells in words and numbers: the one that is pointed at, and the tables of many.

const STAGES = ["plan", "surgery", "recovery", "evaluate"];
/** The checks of stability by their column, in a sweep that recorded it. */
const CHECKS = CELLS.stability_starts ? { unstable: "does not settle", rising: "V does not fall" } : {};
if (CELLS.stability_starts) STAGES.push("stability");

function listed(pairs) {
  return element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

/** Everything that the store has on a cell. */
function cellDetails(cell) {
  const get = (name) => CELLS[name][cell];
  const controller = CONTROLLERS[get("controller")];
  const alone = get("only") === null ? "" : `, only ${get("only")}`;
  const returns = get("returns");
  const facts = [
    ["sparsity asked", fixed(get("sparsity_asked"), 2)],
    ["sparsity, deployed", fixed(get("sparsity_deployed"), 4)],
    ["sparsity, total", fixed(get("sparsity_total"), 4)],
    ["normalised return", score(get("normalised_return"))],
    ["return, mean", fixed(get("mean_return"), 2)],
    ["return, std", fixed(get("std_return"), 2)],
    ["integrity", score(get("integrity"))],
    ...Object.entries(CHECKS).map(([name, label]) => [label, failures(name, cell)]),
    ["parameters left", whole(get("params_total"))],
    ["deployed ones left", whole(get("params_deployed"))],
    ...(get("seed") === null ? [] : [["pruning seed", whole(get("seed"))]]),
  ];
  return [
    element("p", {}, element("strong", {}, methodOf(cell)), ` · ${controller.name} on ${controller.task}${alone}`),
    listed(facts),
    widthsTable(controller.components, DATA.widths[get("widths")]),
    element("h4", {}, `Returns of ${returns.length} episodes, from seed ${get("episode_seed")} on`),
    element("p", { class: "numbers" }, returns.map((value) => fixed(value, 1)).join(", ")),
    element("h4", {}, "Seconds"),
    listed(STAGES.map((stage) => [stage, brief(get(`${stage}_seconds`))])),
  ];
}

/** Failures of a check and how often it may fail at most, at 95% confidence. */
function failures(name, cell) {
  const [count, of, bound] = [name, "stability_starts", `${name}_bound`].map((column) => CELLS[column][cell]);
  return count === null ? "–" : `${whole(count)} of ${whole(of)} (< ${fixed(100 * bound, 1)}%)`;
}

function widthsTable(components, pruned) {
  const heading = (text) => element("th", { scope: "col", class: "left" }, text);
  const head = element("tr", {}, ...["component", "widths before → after"].map(heading));
  const side = (text) => element("span", { class: "side" }, text);
  const lines = components.map(({ name, deployed, widths }, place) => {
    const note = deployed ? [] : [" ", element("small", {}, "not deployed")];
    const [before, after] = [widths, pruned[place]].map((each) => each.join("-"));
    const cell = element("td", { class: "left" }, side(before), " ", side(`→ ${after}`));
    return element("tr", {}, element("th", { scope: "row", class: "left" }, name, ...note), cell);
  });
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
}

/** A point of a curve over several controllers. */
function aggregateDetails(view, curve, place) {
  const facts = [
    [`${view.axis} sparsity`, fixed(curve.x[place], 3)],
    ["normalised return", fixed(curve.y[place], 3)],
    ["95% interval", `${fixed(curve.low[place], 3)} to ${fixed(curve.high[place], 3)}`],
  ];
  return [
    element("p", {}, element("strong", {}, METHODS[curve.method].label), ` · ${view.title}`),
    listed(facts),
    element("p", { class: "remark" }, "Choose a single controller to see its cells."),
  ];
}

/** Columns that say which cell it is, and columns that say what came of it. */
function cellColumns() {
  const of = (value) => ALL_CELLS.map(value);
  const silent = (name, values) => ({ name, values, csvOnly: true });
  const shown = (name, label, show) => ({ name, label, values: CELLS[name], text: (cell) => show(CELLS[name][cell]) });
  const part = (name) => silent(name, of((cell) => METHODS[CELLS.method[cell]]?.[name]));
  const several = new Set(CELLS.seed.filter((seed) => seed !== null)).size > 1;
  const times = STAGES.slice(0, 3).map((stage) => CELLS[`${stage}_seconds`]);
  const total = (cell) => times.reduce((sum, stage) => sum + (stage[cell] ?? 0), 0);
  const spent = of((cell) => (CELLS.error[cell] || CELLS.method[cell] === null ? null : total(cell)));
  const identity = [
    { name: "controller", values: of((cell) => CONTROLLERS[CELLS.controller[cell]].name), left: true },
    silent("algorithm", of((cell) => CONTROLLERS[CELLS.controller[cell]].algorithm)),
    silent("task", of((cell) => CONTROLLERS[CELLS.controller[cell]].task)),
    { name: "method", values: of(methodOf), left: true },
    ...PARTS.map(part),
    { name: "only", values: CELLS.only, left: true, csvOnly: CELLS.only.every((only) => only === null) },
    { name: "seed", values: CELLS.seed, csvOnly: !several },
    shown("sparsity_asked", "asked", (value) => fixed(value, 2)),
  ];
  const outcome = [
    shown("sparsity_deployed", "deployed", (value) => fixed(value, 3)),
    shown("sparsity_total", "total", (value) => fixed(value, 3)),
    shown("normalised_return", "normalised", score),
    shown("mean_return", "return", (value) => fixed(value, 1)),
    shown("std_return", "std", (value) => fixed(value, 1)),
    silent("episodes", CELLS.returns.map((returns) => returns.length)),
    shown("integrity", "integrity", score),
    ...Object.entries(CHECKS).flatMap(([name, label]) => [
      { name, label, values: CELLS[name], text: (cell) => failures(name, cell) },
      silent(`${name}_bound`, CELLS[`${name}_bound`]),
    ]),
    ...(CELLS.stability_starts ? [silent("stability_starts", CELLS.stability_starts)] : []),
    shown("params_deployed", "deployed parameters", whole),
    silent("params_total", CELLS.params_total),
    silent("macs_deployed", CELLS.macs_deployed),
    { name: "seconds", values: spent, text: (cell) => brief(spent[cell]) },
    ...STAGES.map((stage) => silent(`${stage}_seconds`, CELLS[`${stage}_seconds`])),
  ];
  return { identity, outcome };
}

function section(id, title, ...content) {
  const heading = element("h2", { id: `${id}-title` }, title);
  return element("section", { id, "aria-labelledby": `${id}-title`, tabindex: "-1" }, heading, ...content);
}

function remark(text) {
  return element("p", { class: "remark" }, text);
}

/** The sections of tables, and functions that show in some of them what belongs to a view and its methods. */
function tableSections() {
  const sections = [];
  const following = [];
  for (const { name, title, remark: note, chosen: follows, columns } of DATA.tables) {
    const table = makeTable(title, readable(columns));
    const rows = [...columns[0].values.keys()];
    if (follows) following.push((view, methods) => table.show(rowsOf(columns, rows, view, methods)));
    else table.show(rows);
    const first = follows ? [remark("Of what is chosen above.")] : [];
    sections.push(section(name, title, ...first, table.root, remark(note)));
  }
  const { identity, outcome } = cellColumns();
  const cells = makeTable("Cells", [...identity, ...outcome]);
  following.push((view, methods) => {
    const wanted = (cell) => CELLS.method[cell] === null || methods.has(CELLS.method[cell]);
    cells.show(cellsOf(view.panels).filter((cell) => !CELLS.error[cell] && wanted(cell)));
  });
  const seconds = "Of what is chosen above. Seconds are those of plan, surgery and recovery.";
  sections.push(section("cells", "Cells", remark(seconds), cells.root));
  const failed = ALL_CELLS.filter((cell) => CELLS.error[cell]);
  if (failed.length) {
    const error = { name: "error", values: CELLS.error, left: true, long: true };
    const table = makeTable("Cells that failed", [...identity, error]);
    table.show(failed);
    const note = remark("The next run of the sweep tries them again.");
    sections.push(section("failed", "Cells that failed", note, table.root));
  }
  const lacking = DATA.planned - ALL_CELLS.length;
  if (lacking > 0) sections.push(section("missing", "Cells not computed yet", missingCells(lacking)));
  return { sections, following };
}

/** Rows of a table by controller and method that belong to a view; a row without a task is a mean over all of them. */
function rowsOf(columns, rows, view, methods) {
  const values = (name) => columns.find((column) => column.name === name).values;
  const [controllers, tasks, labels] = ["controller", "task", "method"].map(values);
  const wanted = new Set([...methods].map((method) => METHODS[method].label));
  const alone = columns.find((column) => column.name === "only")?.values;
  const owner = (name, task, only) => `${name} ${task} ${only ?? ""}`;
  const found = view.panels.map((panel) => [CONTROLLERS[panel.controller], panel.only]);
  const owners = new Set(found.map(([{ name, task }, only]) => owner(name, task, only)));
  const inside = (row) =>
    tasks[row] === null ? view.mean?.task === null : owners.has(owner(controllers[row], tasks[row], alone?.[row]));
  return rows.filter((row) => wanted.has(labels[row]) && inside(row));
}

function missingCells(count) {
  if (!DATA.missing) {
    return element("p", {}, `${whole(count)}. The store knows how many, and no config beside it says which.`);
  }
  const names = ["controller", "task", "method", "only", "sparsity asked", "seed"];
  const column = (place) => DATA.missing.map((cell) => cell[place]);
  const columns = names.map((name, place) => ({ name, values: column(place), left: place < 4 }));
  const table = makeTable("Cells not computed yet", columns);
  table.show([...DATA.missing.keys()]);
  return table.root;
}
