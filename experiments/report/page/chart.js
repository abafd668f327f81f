// What plotly is given: curves with their bands, a marker a cell, the references across.

const BANDS_UP_TO = 8;
const BELOW_RANDOM = 0.12;
/** Sparsities that are named on an axis which is logarithmic in what is left. */
const NAMED = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999];

/** Where a sparsity stands on such an axis: equal steps divide what is left by the same factor. */
function stretched(sparsity) {
  return -Math.log1p(-sparsity);
}

/** How far the axis goes, and the function that places a sparsity on it, by the names of `SCALES`. */
function acrossAxis(scale, curves) {
  if (scale === "even") return { place: (sparsity) => sparsity, range: [0, 1.01] };
  const highest = Math.max(0.5, ...curves.flatMap((curve) => [...curve.x, ...curve.points.x]));
  const ticks = { tickvals: NAMED.map(stretched), ticktext: NAMED.map(String) };
  return { place: stretched, range: [0, stretched(1 - 0.9 * (1 - highest))], ...ticks };
}

/** Resolved colours of the page: plotly takes no custom properties. */
function palette() {
  const probe = element("i", { hidden: true });
  document.body.append(probe);
  const names = ["paper", "ink", "faint", "line"];
  const found = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return { ...Object.fromEntries(found), dark: document.documentElement.dataset.theme === "dark" };
}

/** A method's colour, `#RRGGBB`; greys, which the baselines have, turn around on dark paper. */
function onPaper(colour, dark) {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  if (!dark || red !== green || green !== blue) return colour;
  return `#${Math.round(240 - 0.75 * red).toString(16).repeat(3)}`;
}

/** plotly reads a little markup in its labels: names must not be taken for it. */
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Traces of one curve: the band, the line, the points that can be pointed at. */
function curveTraces(curve, method, style) {
  const { colour, opacity, band, place, axisTitle, heightTitle, form } = style;
  const x = curve.x.map(place);
  const common = { opacity, showlegend: false, hoverinfo: "skip", type: "scatter" };
  const traces = [];
  if (band) {
    const edge = { ...common, x, mode: "lines", line: { width: 0, color: colour } };
    const filled = { fill: "tonexty", fillcolor: `${colour}22` };
    traces.push({ ...edge, y: curve.low }, { ...edge, y: curve.high, ...filled });
  }
  const line = { color: colour, width: 1.8, dash: method.dash };
  traces.push({ ...common, x, y: curve.y, mode: "lines", line });
  const { points } = curve;
  const [across, along] = [`${axisTitle} %{text}`, `${heightTitle} %{y:${form}}`];
  traces.push({
    ...common,
    x: points.x.map(place),
    y: points.y,
    text: points.x.map((sparsity) => fixed(sparsity, 3)),
    mode: "markers",
    name: method.label,
    marker: { symbol: method.symbol, color: colour, size: 7, line: { color: colour, width: 1.4 } },
    meta: { method: curve.method },
    customdata: points.cells,
    hoverinfo: "all",
    hovertemplate: `<b>${plain(method.label)}</b><br>${across}<br>${along}<extra></extra>`,
    cliponaxis: false,
  });
  return traces;
}

/** A line across, with its name at the left end. */
function reference(level, name, dash, colours) {
  const across = { type: "line", xref: "paper", x0: 0, x1: 1, y0: level, y1: level, layer: "below" };
  const place = { xref: "paper", x: 0.005, y: level, xanchor: "left", yanchor: "bottom", showarrow: false };
  return {
    line: { ...across, line: { color: colours.faint, width: 1, dash } },
    note: { ...place, text: name, font: { color: colours.faint, size: 12 } },
  };
}

/** Traces and layout of a view (see `currentView`), on one of the `SCALES` of sparsities. */
function drawing(view, methods, marked, scale) {
  const colours = palette();
  const few = view.curves.length <= BANDS_UP_TO;
  const form = view.height === "return" ? ",.1f" : ".3f";
  const { place, ...across } = acrossAxis(scale, view.curves);
  const titles = { place, axisTitle: `${view.axis} sparsity`, heightTitle: HEIGHTS[view.height], form };
  // What is marked is drawn last, over the others.
  const order = [...view.curves].sort((a, b) => marked.has(a.method) - marked.has(b.method));
  const traces = order.flatMap((curve) => {
    const out = marked.has(curve.method);
    const style = {
      ...titles,
      colour: onPaper(methods[curve.method].colour, colours.dark),
      opacity: marked.size && !out ? 0.12 : 1,
      band: marked.size ? out : few,
    };
    return curveTraces(curve, methods[curve.method], style);
  });
  const lines = [];
  if (view.dense !== null) lines.push(reference(view.dense, "dense", "solid", colours));
  if (view.random !== null) lines.push(reference(view.random, "random actions", "dot", colours));
  const heights = view.curves.flatMap((curve) => [...curve.y, ...curve.points.y]);
  const numbers = [...heights, view.dense, view.random].filter((value) => value !== null);
  if (!numbers.length) numbers.push(0, 1);
  let [bottom, top] = [Math.min(...numbers), Math.max(...numbers)];
  if (view.dense !== null && view.random !== null) {
    bottom = Math.max(bottom, Math.min(view.dense, view.random) - BELOW_RANDOM * Math.abs(view.dense - view.random));
  }
  const pad = 0.04 * (top - bottom || 1);
  const tone = { gridcolor: colours.line, linecolor: colours.faint, tickcolor: colours.faint };
  const axis = { ...tone, zeroline: false, ticks: "outside", automargin: true };
  const font = { family: getComputedStyle(document.body).fontFamily, color: colours.ink };
  const layout = {
    paper_bgcolor: colours.paper,
    plot_bgcolor: colours.paper,
    font: { ...font, size: 13 },
    margin: { l: 56, r: 12, t: 32, b: 48 },
    hovermode: "closest",
    hoverlabel: { bgcolor: colours.paper, bordercolor: colours.faint, align: "left", font },
    xaxis: { ...axis, title: { text: `${titles.axisTitle}${scale === "left" ? ", logarithmic in what is left" : ""}` }, ...across },
    yaxis: { ...axis, title: { text: titles.heightTitle }, range: [bottom - pad, top + pad] },
    shapes: lines.map((entry) => entry.line),
    annotations: lines.map((entry) => entry.note),
    uirevision: `${view.title} ${view.axis} ${view.height} ${scale}`,
  };
  return { traces, layout };
}

/** A marker as plotly drew it, by method: the legend shows the same. */
function markers(chart) {
  const found = new Map();
  for (const trace of chart.querySelectorAll(".scatterlayer .trace")) {
    const point = trace.querySelector("path.point");
    const meta = trace.__data__[0].trace.meta;
    if (point && meta) found.set(meta.method, point.cloneNode());
  }
  return found;
}

/** The method's line and marker, for the table that is also the legend. */
function swatch(method, marker, dark) {
  const dashes = { dash: "6 3", dashdot: "8 2 2 2", dot: "2 2", longdash: "11 3", longdashdot: "11 2 2 2" };
  const part = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const stroke = onPaper(method.colour, dark);
  const dash = { "stroke-width": 1.8, "stroke-dasharray": dashes[method.dash] ?? "none" };
  const line = part("line", { x1: 0, y1: 7, x2: 38, y2: 7, stroke, ...dash });
  if (marker) marker.setAttribute("transform", "translate(19,7)");
  return part("svg", { width: 38, height: 14, "aria-hidden": "true" }, line, ...(marker ? [marker] : []));
}
