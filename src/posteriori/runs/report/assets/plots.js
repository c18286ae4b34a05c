"use strict";
// Plots over time: one uPlot a panel, made when it is first seen; zoom and crosshair are shared.

const plots = new Map(); // by the panel's key: { spec, box, chart, curves }
const CROSSHAIR = "time";
const DASHES = [[], [5, 4], [1.5, 3], [9, 3, 2, 3]];

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) drawPlot(plots.get(entry.target.dataset.plot));
}, { rootMargin: "400px" });

const resized = new ResizeObserver((entries) => {
  for (const entry of entries) {
    const plot = plots.get(entry.target.dataset.plot);
    if (plot?.chart) plot.chart.setSize({ width: widthOf(plot), height: plot.spec.height });
  }
});

const widthOf = (plot) => Math.max(100, Math.floor(plot.box.clientWidth));

// A panel: title, note, and the place of its plot. A spec has lines: [{ metric, name, dash }].
function panel(spec) {
  spec = { height: 200, lines: [], ...spec };
  const known = spec.lines.filter((line) => data.runs.some((run) => run.series[line.metric]));
  const box = el("div", { class: "plot", "data-plot": spec.key, style: `height: ${spec.height}px` });
  const legend = known.length > 1 ? el("span", { class: "dashes" }, known.map(dashKey)) : null;
  const head = el("div", { class: "panel-head" }, el("h3", {}, spec.title), legend);
  if (!known.length) {
    const wanted = spec.lines.map((line) => line.metric).join(", ");
    box.append(el("p", { class: "empty" }, `No ${wanted} in these runs yet.`));
    box.removeAttribute("data-plot");
    return el("figure", { class: "panel" }, head, box);
  }
  plots.set(spec.key, { spec: { ...spec, lines: known }, box, chart: null, curves: [] });
  seen.observe(box);
  resized.observe(box);
  const note = spec.note ? el("figcaption", {}, spec.note) : null;
  return el("figure", { class: "panel" }, head, box, note);
}

function dashKey(line, i) {
  const dash = DASHES[line.dash ?? i].join(" ");
  const stroke = { x1: 0, x2: 22, y1: 5, y2: 5, stroke: "currentColor", "stroke-width": 1.6, "stroke-dasharray": dash };
  return el("span", {}, svg("svg", { width: 22, height: 10 }, svg("line", stroke)), line.name);
}

function drawPlot(plot) {
  if (!plot || !plot.box.isConnected) return;
  const { table, drawn, bands, curves } = aligned(plot.spec);
  const shape = JSON.stringify(drawn.map((one) => one.id));
  plot.curves = curves; // before the range of y is asked for
  if (plot.chart && plot.shape === shape) {
    plot.chart.setData(table, !settings.zoom);
    return;
  }
  plot.chart?.destroy();
  plot.shape = shape;
  plot.chart = new uPlot(options(plot, drawn, bands), table, plot.box);
  if (settings.zoom) plot.chart.setScale("x", settings.zoom);
}

// All curves of a panel on one column of x, as uPlot wants them; and how each is drawn.
function aligned(spec) {
  const tables = [], drawn = [], bands = [], curves = [];
  spec.lines.forEach((line, i) => {
    const made = curvesOf(line, i === 0 ? spec.alone : null);
    for (const curve of made) {
      const index = 1 + drawn.length, columns = [curve.x, curve.y];
      const id = [colourOf(curve.group), line.metric, curve.run?.path, !!curve.low].join();
      drawn.push({ id, curve, kind: "line", dash: line.dash ?? i, thin: settings.seeds === "each" || curve.x.length > 100 });
      if (curve.low && !line.faint) {
        columns.push(curve.high, curve.low);
        drawn.push({ id, curve, kind: "edge" }, { id, curve, kind: "edge" });
        bands.push({ series: [index + 1, index + 2], fill: tint(curve.group, 18) });
      }
      tables.push(columns);
      curves.push(curve);
    }
  });
  return { table: tables.length ? uPlot.join(tables) : [[]], drawn, bands, curves };
}

function tint(group, share) {
  return `color-mix(in srgb, ${css(colourOf(group))} ${share}%, transparent)`;
}

function options(plot, drawn, bands) {
  const ink = css("--faint"), rule = css("--rule"), { spec } = plot;
  const axis = { stroke: ink, font: "11px system-ui, sans-serif", grid: { stroke: rule, width: 1 }, ticks: { show: false } };
  const across = { ...axis, grid: { show: false }, size: 26, space: 54, values: (_, ticks) => ticks.map(axisText) };
  const up = { ...axis, size: 44, gap: 4, space: 34, values: (_, ticks) => ticks.map(compact) };
  return {
    width: widthOf(plot),
    height: spec.height,
    padding: [10, 18, 0, 0],
    legend: { show: false },
    scales: { x: { time: false }, y: { range: (_, low, high) => reachOf(plot, low, high) } },
    axes: [across, up],
    series: [{}, ...drawn.map(seriesOptions)],
    bands,
    cursor: {
      sync: { key: CROSSHAIR, setSeries: false },
      drag: { x: true, y: false, setScale: false },
      points: { show: false },
      y: false,
      bind: { dblclick: () => () => { zoomTo(null); return null; } },
    },
    hooks: {
      draw: [(u) => { reference(u, spec); marks(u); }],
      setCursor: [(u) => tell(u, plot)],
      setSelect: [(u) => select(u)],
    },
  };
}

function seriesOptions(one) {
  if (one.kind === "edge") return { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } };
  const colour = css(colourOf(one.curve.group));
  const few = one.curve.x.length <= 60;
  return {
    stroke: one.curve.line.faint ? tint(one.curve.group, 55) : colour,
    width: one.thin ? 1.1 : one.dash ? 1.4 : 2,
    dash: DASHES[one.dash],
    spanGaps: true,
    points: { show: few && !one.dash, size: 4, fill: colour, width: 0 },
  };
}

// The range of y: with some air, down to zero where that means something, the bound always in view.
function reachOf({ spec, curves }, low, high) {
  if (low === null || low === undefined) return [0, 1];
  if (spec.usual) high = Math.min(high, 1.3 * quantile(curves.flatMap((curve) => curve.y), 0.95));
  if (spec.bound !== undefined) high = Math.max(high, spec.bound * 1.15);
  if (spec.zero) low = Math.min(0, low);
  const air = (high - low || Math.abs(high) || 1) * 0.06;
  return [spec.zero && low === 0 ? 0 : low - air, high + air];
}

function reference(u, spec) {
  if (spec.bound === undefined) return;
  const y = Math.round(u.valToPos(spec.bound, "y", true));
  stroke(u, [u.bbox.left, y], [u.bbox.left + u.bbox.width, y], css("--ink"), []);
}

// A mark on the time axis for each warning of a shown run.
function marks(u) {
  for (const group of shownGroups())
    for (const run of shownRuns(group))
      for (const x of onAxis(run, run.warnings.map((warning) => warning.step))) {
        const at = Math.round(u.valToPos(x, "x", true)), { left, width, top, height } = u.bbox;
        if (at < left || at > left + width) continue;
        stroke(u, [at, top], [at, top + height], css("--warn"), [2, 4]);
      }
}

function stroke(u, from, to, colour, dash) {
  const { ctx } = u;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = uPlot.pxRatio;
  ctx.globalAlpha = 0.65;
  ctx.setLineDash(dash.map((length) => length * uPlot.pxRatio));
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
  ctx.restore();
}

function select(u) {
  const { left, width } = u.select;
  if (width > 4) zoomTo({ min: u.posToVal(left, "x"), max: u.posToVal(left + width, "x") });
  if (width) u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
}

// Show a range of time in every plot, or everything.
function zoomTo(range) {
  settings.zoom = range;
  document.getElementById("unzoom").hidden = !range;
  for (const { chart } of plots.values())
    if (chart) range ? chart.setScale("x", range) : chart.setData(chart.data, true);
}

function redraw() {
  for (const plot of plots.values()) if (plot.chart) drawPlot(plot);
}

// With other colours or other axes, every plot is made anew.
function remake() {
  for (const plot of plots.values()) plot.shape = null;
  redraw();
}

// Beside the pointer, what each curve has there.
function tell(u, plot) {
  const tip = document.getElementById("tip");
  if (!u.over.matches(":hover") || u.cursor.left < 0) {
    if (tip.owner === u) tip.hidden = true;
    return;
  }
  const x = u.posToVal(u.cursor.left, "x"), span = u.scales.x.max - u.scales.x.min;
  const rows = plot.curves.map((curve) => tipRow(curve, x, span, plot.spec)).filter(Boolean);
  tip.owner = u;
  tip.hidden = !rows.length;
  const head = `${axisText(x)} ${settings.axis === "seconds" ? "" : AXES[settings.axis].label}`;
  tip.replaceChildren(el("div", { class: "tip-head" }, head), el("table", {}, rows.slice(0, 14)));
  place(tip, u);
}

function tipRow(curve, x, span, spec) {
  const at = rank(curve.x, x), near = [at - 1, at].filter((i) => i >= 0 && i < curve.x.length);
  near.sort((a, b) => Math.abs(curve.x[a] - x) - Math.abs(curve.x[b] - x));
  const i = near[0];
  if (i === undefined || Math.abs(curve.x[i] - x) > span / 8) return null;
  const reach = curve.low ? `${number(curve.low[i])} to ${number(curve.high[i])}` : "";
  const which = [curve.group.label];
  if (curve.run && runsOf(curve.group).length > 1) which.push(`seed ${curve.run.seed}`);
  if (spec.lines.length > 1) which.push(curve.line.name);
  return el("tr", {}, el("td", {}, swatch(curve.group), which.join(", ")),
    el("td", { class: "number" }, number(curve.y[i])), el("td", { class: "faint" }, reach));
}

function place(tip, u) {
  const over = u.over.getBoundingClientRect(), { left, top } = u.cursor;
  const x = over.left + left, y = over.top + top, wide = tip.offsetWidth, high = tip.offsetHeight;
  const right = x + 18 + wide < innerWidth ? x + 18 : Math.max(4, x - 18 - wide);
  tip.style.left = `${right}px`;
  tip.style.top = `${Math.min(Math.max(4, y - high / 2), innerHeight - high - 4)}px`;
}
