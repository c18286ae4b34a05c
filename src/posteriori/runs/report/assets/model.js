"use strict";
// What the page knows: runs and groups as the data has them, and the curves that are made of them.

const AXES = {
  steps: { label: "environment steps", metric: null },
  episodes: { label: "episodes", metric: "progress/episodes" },
  seconds: { label: "wall-clock time", metric: "progress/seconds" },
};
const MOST_BUCKETS = 800; // of a band over several runs: more than a screen shows

const settings = { axis: "steps", seeds: "band", smoothing: 0, hidden: new Set(), zoom: null };
let data = { runs: [], groups: [] };

const runsOf = (group) => group.runs.map((id) => data.runs[id]);
const shownRuns = (group) => runsOf(group).filter((run) => !settings.hidden.has(run.path));
const shownGroups = () => data.groups.filter((group) => shownRuns(group).length);
const colourOf = (group) => `--group-${data.groups.indexOf(group) % 10}`;

// Steps and values of a metric, or null if the run has none.
function series(run, metric) {
  const found = run.series[metric];
  return found ? { x: run.axes[found[0]], y: found[1] } : null;
}

function last(run, metric) {
  const found = series(run, metric);
  if (!found) return null;
  for (let i = found.y.length - 1; i >= 0; i--) if (found.y[i] !== null) return found.y[i];
  return null;
}

// The number of entries that are at most x.
function rank(xs, x) {
  let low = 0, high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle + 1; else high = middle;
  }
  return low;
}

// The value at x by straight lines; null outside, unless `ends` are to hold there.
function interpolate(xs, ys, x, ends) {
  const n = xs.length, at = rank(xs, x);
  if (!n || (!ends && (x < xs[0] || x > xs[n - 1]))) return null;
  if (at === 0) return ys[0];
  if (at === n) return ys[n - 1];
  const share = (x - xs[at - 1]) / (xs[at] - xs[at - 1]);
  return ys[at - 1] + share * (ys[at] - ys[at - 1]);
}

// Steps as they lie on the chosen axis.
function onAxis(run, steps) {
  const { metric } = AXES[settings.axis];
  if (!metric) return steps;
  const clock = series(run, metric);
  return clock ? steps.map((step) => interpolate(clock.x, clock.y, step, true)) : [];
}

// A run's curve of a metric, without what is no number, averaged over `width` neighbours.
function runCurve(run, metric, width) {
  const found = series(run, metric);
  if (!found) return null;
  const kept = found.y.map((y, i) => i).filter((i) => found.y[i] !== null);
  const x = onAxis(run, kept.map((i) => found.x[i])), y = kept.map((i) => found.y[i]);
  return x.length ? { run, x, y: width > 1 ? averaged(y, width) : y } : null;
}

function averaged(ys, width) {
  const sums = [0];
  for (const y of ys) sums.push(sums[sums.length - 1] + y);
  return ys.map((_, i) => {
    const reach = Math.min(i, ys.length - 1 - i, width >> 1); // symmetric, so that nothing shifts
    return (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1);
  });
}

// The median of runs and the band from their lowest to their highest, where half of them are.
function bandCurve(curves) {
  const all = [...new Set(curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
  const grid = buckets(all);
  const band = { x: [], y: [], low: [], high: [], n: [] };
  for (const xs of grid) {
    const parts = curves.map((curve) => within(curve, xs)).filter((part) => part.length);
    if (2 * parts.length < curves.length) continue;
    const values = parts.flat();
    band.x.push(xs[xs.length >> 1]);
    band.y.push(median(parts.map((part) => part.reduce((a, b) => a + b) / part.length)));
    band.low.push(Math.min(...values));
    band.high.push(Math.max(...values));
    band.n.push(parts.length);
  }
  return band;
}

// What lies so close that a screen shows it as one: seeds report at steps that differ by a few.
function buckets(xs) {
  const width = (xs[xs.length - 1] - xs[0]) / MOST_BUCKETS, made = [];
  for (const x of xs) {
    const open = made[made.length - 1];
    if (open && x - open[0] <= width) open.push(x); else made.push([x]);
  }
  return made;
}

// A curve's values between the first and the last x, or the one that lines give in the middle.
function within(curve, xs) {
  const from = rank(curve.x, xs[0] - 1e-9), to = rank(curve.x, xs[xs.length - 1]);
  if (to > from) return curve.y.slice(from, to);
  const y = interpolate(curve.x, curve.y, xs[xs.length >> 1], false);
  return y === null ? [] : [y];
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.round(share * (sorted.length - 1))];
}

function mean(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function deviation(values) {
  const centre = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - centre) ** 2)));
}

// The lines of a metric: one a group, or one a run if seeds are to be told apart.
function curvesOf(line, alone) {
  const width = line.smooth === false ? 0 : Math.max(settings.smoothing, line.average || 0);
  const made = [];
  for (const group of shownGroups()) {
    const runs = shownRuns(group).map((run) => runCurve(run, line.metric, width)).filter(Boolean);
    if (!runs.length) continue;
    if (runs.length === 1 || settings.seeds === "each") {
      for (const curve of runs) made.push({ group, line, ...curve, ...reach(curve.run, alone) });
    } else {
      made.push({ group, line, ...bandCurve(runs) });
    }
  }
  return made;
}

// For a run by itself, what lies between two other metrics, such as its worst and best episode.
function reach(run, metrics) {
  if (!metrics || settings.seeds === "each") return {};
  const [low, high] = metrics.map((metric) => runCurve(run, metric, 0));
  return low && high ? { low: low.y, high: high.y, between: "episodes" } : {};
}

function metricsLike(pattern) {
  const names = new Set();
  for (const run of data.runs)
    for (const name of Object.keys(run.series)) if (pattern.test(name)) names.add(name);
  return [...names].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}
