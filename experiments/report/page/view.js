// What the reader chose, and the curves and cells that follow from it. Nothing here touches the page.

const DATA = JSON.parse(document.getElementById("data").textContent);
const { methods: METHODS, controllers: CONTROLLERS, panels: PANELS, cells: CELLS } = DATA;
const ALL_CELLS = CELLS.method.map((_, cell) => cell);
const PARTS = ["grouping", "importance", "allocation", "recovery"];
const SPARSITIES = [...new Set(CELLS.sparsity_asked)].filter((value) => value > 0).sort((a, b) => a - b);
const HEIGHTS = { normalised: "normalised return", return: "return" };
const SCALES = { left: "logarithmic", even: "linear" };
const AGGREGATES = { iqm: "inter-quartile mean", mean: "mean" };

const chosen = {
  task: "",
  offer: "",
  axis: DATA.axes[0],
  scale: "left",
  height: "normalised",
  leftOut: Object.fromEntries(PARTS.map((part) => [part, new Set()])),
  marked: new Set(),
};

/** Numbers of the methods that the reader left in. */
function methodsChosen() {
  const kept = (method) => PARTS.every((part) => !chosen.leftOut[part].has(method[part]));
  return new Set(METHODS.flatMap((method, number) => (kept(method) ? [number] : [])));
}

/** What there is to look at under a task ("": all of them): the aggregates over controllers, then each controller. */
function offers(task) {
  const single = new Set(CONTROLLERS.map((controller) => controller.task)).size === 1;
  const fits = (name) => (task === "" || single ? name === null || single : name === task);
  const means = DATA.means.filter((mean) => mean.curves.length && fits(mean.task));
  const aggregates = means.flatMap((mean) =>
    Object.entries(AGGREGATES).map(([aggregate, name]) => {
      const title = `${name[0].toUpperCase()}${name.slice(1)} of ${mean.runs} runs`;
      return { id: `${aggregate} ${mean.task}`, title, mean, aggregate };
    }),
  );
  const panels = PANELS.flatMap((panel, number) => {
    const controller = CONTROLLERS[panel.controller];
    if ((task && controller.task !== task) || !panel.curves.length) return [];
    const title = panel.only === null ? controller.name : `${controller.name}, only ${panel.only}`;
    return [{ id: `panel ${number}`, title, panel }];
  });
  return [...aggregates, ...panels];
}

/**
 * What is drawn, in sparsities and heights. `curves` have `method`, the line `x`, `y`, the band `low`, `high` and the `points` that can be pointed
 * at: `x`, `y` and, unless they are aggregates, the `cells` that they are. `dense` and `random` are heights.
 */
function currentView() {
  const found = offers(chosen.task);
  const offer = found.find(({ id }) => id === chosen.offer) ?? found[0];
  return offer.mean ? aggregateView(offer, methodsChosen()) : panelView(offer, methodsChosen());
}

function aggregateView({ title, mean, aggregate }, methods) {
  const own = mean.curves.filter((curve) => curve.axis === chosen.axis);
  const curves = own
    .filter((curve) => methods.has(curve.method))
    .map((curve) => {
      const line = { x: curve.x, y: curve[aggregate] };
      const band = { low: curve[`${aggregate}_low`], high: curve[`${aggregate}_high`] };
      return { method: curve.method, ...line, ...band, points: { ...line, cells: null } };
    });
  const lacking = [...methods].filter((method) => !own.some((curve) => curve.method === method));
  const tasks = new Set(CONTROLLERS.map((controller) => controller.task));
  const where = mean.task ?? (tasks.size === 1 ? [...tasks][0] : `${mean.pairs} pairs of algorithm and task`);
  const shared = { axis: chosen.axis, height: "normalised", dense: 1, random: 0 };
  return { title: `${title}, ${where}`, ...shared, curves, lacking, mean, panels: panelsOf(mean) };
}

function panelsOf(mean) {
  const inside = (panel) => mean.task === null || CONTROLLERS[panel.controller].task === mean.task;
  return PANELS.filter((panel) => panel.only === null && inside(panel));
}

function panelView({ panel }, methods) {
  const controller = CONTROLLERS[panel.controller];
  const height = panel.curves.some((curve) => curve.normalised) ? chosen.height : "return";
  const { dense, random } = panel;
  const scaled = (value) => {
    if (value === null || height === "return") return value;
    return (value - random) / (dense - random);
  };
  const pruned = cellsOf([panel]).filter((cell) => CELLS.method[cell] !== null && !CELLS.error[cell]);
  const across = CELLS[`sparsity_${chosen.axis}`];
  const heights = height === "return" ? CELLS.mean_return : CELLS.normalised_return;
  const curves = panel.curves
    .filter((curve) => methods.has(curve.method) && curve[height])
    .map((curve) => {
      const x = curve[chosen.axis];
      const order = sorted([...x.keys()], x, false);
      const from = (start, values) => [...(dense === null ? [] : [start]), ...order.map((place) => values[place])];
      const cells = sorted(pruned.filter((cell) => CELLS.method[cell] === curve.method), across, false);
      const at = (values) => cells.map((cell) => values[cell]);
      return {
        method: curve.method,
        x: from(0, x),
        y: from(scaled(dense), curve[height]),
        low: from(scaled(dense), curve[`${height}_low`]),
        high: from(scaled(dense), curve[`${height}_high`]),
        points: { x: at(across), y: at(heights), cells },
      };
    });
  const alone = panel.only === null ? "" : `, only ${panel.only} pruned`;
  const title = `${controller.name} on ${controller.task}${alone}`;
  const references = { dense: scaled(dense), random: scaled(random) };
  return { title, axis: chosen.axis, height, ...references, curves, lacking: [], panels: [panel] };
}

/** The cells of some panels, and those of their dense controllers. */
function cellsOf(panels) {
  const scope = (controller, only) => `${controller} ${only}`;
  const scopes = new Set(panels.map((panel) => scope(panel.controller, panel.only)));
  const owners = new Set(panels.map((panel) => panel.controller));
  return ALL_CELLS.filter((cell) => {
    const controller = CELLS.controller[cell];
    return CELLS.method[cell] === null ? owners.has(controller) : scopes.has(scope(controller, CELLS.only[cell]));
  });
}

function methodOf(cell) {
  return CELLS.method[cell] === null ? "dense" : METHODS[CELLS.method[cell]].label;
}

/** The curve's height at `asked`, on straight lines between its points; null where it ends before. */
function readOff(curve, asked) {
  const { x, y } = curve;
  const at = asked - x.at(-1) <= 0.005 ? Math.min(asked, x.at(-1)) : asked; // a sparsity counts as met within 0.005
  for (let i = 1; i < x.length; i++) {
    if (x[i - 1] <= at && at <= x[i] && y[i - 1] !== null && y[i] !== null) {
      const share = x[i] === x[i - 1] ? 1 : (at - x[i - 1]) / (x[i] - x[i - 1]);
      return y[i - 1] + share * (y[i] - y[i - 1]);
    }
  }
  return null;
}
