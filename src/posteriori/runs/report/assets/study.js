"use strict";
// A study of settings: its history, what mattered, and every trial as a line over the settings' axes.

const TOP_TRIALS = 10; // rows of the table
const AXIS_WIDTH = 96; // pixels at least between two axes
const histories = new Map(); // by the study's path: { study, box, chart }

const completeOf = (study) => study.trials.filter((trial) => trial.state === "complete");
const byScore = (trials) => [...trials].sort((a, b) => b.score - a.score);

function studySection(study) {
  const commandLine = study.command ? el("div", { class: "command" }, el("code", {}, study.command),
    el("button", { type: "button", onclick: (event) => copy(event, study.command) }, "copy")) : null;
  return el("div", { class: "study", "data-study": study.path },
    el("h2", {}, "Tuning ", el("small", {}, study.env)),
    el("p", { class: "faint" }, study.sentence), commandLine,
    el("div", { class: "study-grid" }, historyPanel(study), importancePanel(study)),
    parallelPanel(study), trialTable(study), failures(study));
}

// What the rest of the page is about, where a report was made of a study.
function runsHeading() {
  if (data.live || !data.studies.length || !data.runs.length) return null;
  return el("h2", {}, "Runs", el("small", {}, "of the best trial, and of the defaults where it is another"));
}

// Scores by trial, and the best so far; the defaults' score as a line.
function historyPanel(study) {
  const box = el("div", { class: "plot", style: "height: 230px" });
  histories.get(study.path)?.chart?.destroy();
  histories.set(study.path, { study, box, chart: null });
  new ResizeObserver(() => drawHistory(study.path)).observe(box);
  const note = study.defaults === null ? null : el("figcaption", {}, "The line across is the defaults' score.");
  return el("figure", { class: "panel" }, el("div", { class: "panel-head" }, el("h3", {}, "Score of each trial, and the best so far")), box, note);
}

function drawHistory(path) {
  const { study, box, chart } = histories.get(path), complete = completeOf(study);
  if (!box.isConnected) return;
  chart?.destroy();
  let best = -Infinity;
  const sofar = complete.map((trial) => (best = Math.max(best, trial.score)));
  const table = [complete.map((trial) => trial.number), complete.map((trial) => trial.score), sofar];
  histories.get(path).chart = new uPlot(historyOptions(study, box, complete), table, box);
}

function historyOptions(study, box, complete) {
  const ink = css("--faint"), axis = { stroke: ink, font: "11px system-ui, sans-serif", ticks: { show: false } };
  const usual = complete.find((trial) => trial.number === study.defaults);
  const across = { ...axis, grid: { show: false }, size: 26, space: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] };
  const up = { ...axis, grid: { stroke: css("--rule"), width: 1 }, size: 52, values: (_, ticks) => ticks.map(compact) };
  return {
    width: Math.max(100, box.clientWidth), height: 230, padding: [10, 18, 0, 0], legend: { show: false },
    scales: { x: { time: false, range: [-0.5, Math.max(1, study.trials.length) - 0.5] } }, axes: [across, up],
    series: [{}, { stroke: "transparent", points: { show: true, size: 7, fill: css("--score-high"), width: 0 } },
      { stroke: css("--group-1"), width: 1.6, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }],
    cursor: { drag: { x: false, y: false }, y: false, points: { show: false } },
    hooks: { draw: [(u) => usual && acrossLine(u, usual.score)], setCursor: [(u) => tellHistory(u, study, complete)] },
  };
}

function acrossLine(u, score) {
  const y = Math.round(u.valToPos(score, "y", true));
  stroke(u, [u.bbox.left, y], [u.bbox.left + u.bbox.width, y], css("--ink"), [6, 4]);
}

function tellHistory(u, study, complete) {
  const tip = document.getElementById("tip"), trial = complete[u.cursor.idx];
  tip.hidden = !trial || !u.over.matches(":hover");
  if (tip.hidden) return;
  tip.replaceChildren(...trialTip(trial, study));
  place(tip, u);
}

// With other colours the plots are made anew; all else has its colours from the style.
function remakeHistories() {
  for (const path of histories.keys()) drawHistory(path);
}

function importancePanel(study) {
  const shares = Object.entries(study.importances);
  const rows = shares.map(([name, share]) => [el("span", { class: "name" }, name),
    el("span", { class: "bar" }, el("span", { style: `width: ${100 * share}%` })), el("span", {}, `${Math.round(100 * share)}%`)]);
  const body = rows.length ? el("div", { class: "importance" }, rows)
    : el("p", { class: "empty" }, "Not known yet: this takes five complete trials that differ in their score.");
  return el("figure", { class: "panel" }, el("div", { class: "panel-head" }, el("h3", {}, "What told good trials from the others")), body,
    rows.length ? el("figcaption", {}, "PED-ANOVA, of complete trials; shares of one") : null);
}

// Where a value lies on the axis of its setting: 0 at its foot, 1 at its head.
function heightOn(axis, value) {
  if (axis.choices) return axis.choices.findIndex((choice) => JSON.stringify(choice) === JSON.stringify(value)) / (axis.choices.length - 1);
  const scale = axis.log ? Math.log : (x) => x;
  return (scale(value) - scale(axis.low)) / (scale(axis.high) - scale(axis.low) || 1);
}

function axesOf(study) {
  const scores = completeOf(study).map((trial) => trial.score);
  const searched = Object.entries(study.space).filter(([, axis]) => axis.choices?.length !== 1);
  const axes = searched.map(([name, axis]) => ({ name, axis, value: (trial) => trial.values[name], text: settingText }));
  if (scores.length) axes.push({ name: "score", axis: { low: Math.min(...scores), high: Math.max(...scores) }, value: (trial) => trial.score, text: (score) => number(score) });
  return axes;
}

function parallelPanel(study) {
  const axes = axesOf(study), complete = byScore(completeOf(study)).reverse();
  const pruned = study.trials.filter((trial) => trial.state === "pruned");
  const lines = [...pruned, ...complete].map((trial) => trialLine(trial, study, axes, complete));
  const feet = axes.map((_, i) => svg("line", { x1: acrossAt(i, axes), x2: acrossAt(i, axes), y1: 0, y2: 100 }));
  const drawing = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": "settings of each trial" },
    feet, lines.map(({ seen: path }) => path), lines.map(({ hit }) => hit));
  const plot = el("div", { class: "parallel", style: `min-width: ${AXIS_WIDTH * (axes.length - 1)}px` }, drawing, axes.map((one, i) => axisMarks(one, i, axes)));
  const box = pruned.length ? el("label", {}, el("input", { type: "checkbox", checked: true, onchange: () => plot.classList.toggle("no-pruned") }), ` ${pruned.length} pruned`) : null;
  const usual = study.defaults === null ? null : el("span", {}, el("span", { class: "key-line" }), "defaults");
  const legend = el("span", { class: "dashes" }, el("span", {}, "worst", el("span", { class: "ramp" }), "best"), usual, box);
  return el("figure", { class: "panel" }, el("div", { class: "panel-head" }, el("h3", {}, "Every trial: its settings and its score"), legend),
    el("div", { class: "scroll" }, plot), el("figcaption", {}, "Colour: the score's rank among complete trials. The thick line is the best."));
}

const acrossAt = (i, axes) => (axes.length > 1 ? (100 * i) / (axes.length - 1) : 50);

// A trial's line, and a wider one that nobody sees, for the pointer.
function trialLine(trial, study, axes, complete) {
  const points = axes.map((one, i) => [acrossAt(i, axes), one.value(trial), one.axis]).filter(([, value]) => value !== null && value !== undefined)
    .map(([x, value, axis]) => `${x},${100 - 100 * heightOn(axis, value)}`);
  const d = `M${points.join("L")}`, rank = complete.indexOf(trial), marks = ["trial", trial.state, `of-${trial.state}`];
  if (trial.number === study.best) marks.push("best");
  if (trial.number === study.defaults) marks.push("defaults");
  const share = complete.length > 1 ? (100 * rank) / (complete.length - 1) : 100;
  const style = rank < 0 ? "" : `stroke: color-mix(in oklab, var(--score-high) ${share}%, var(--score-low))`;
  const seen = svg("path", { d, class: marks.join(" "), style, "data-trial": trial.number });
  const hit = svg("path", { d, class: `hit of-${trial.state}` });
  hit.addEventListener("pointermove", (event) => { seen.classList.add("on"); tipAt(event, trialTip(trial, study)); });
  hit.addEventListener("pointerleave", () => { seen.classList.remove("on"); document.getElementById("tip").hidden = true; });
  return { seen, hit };
}

function axisMarks({ name, axis, text }, i, axes) {
  const left = `left: ${acrossAt(i, axes)}%`, marks = axis.choices || (axis.low === axis.high ? [axis.low] : [axis.low, axis.high]);
  const at = (value) => 40 + 250 * (1 - heightOn(axis, value));
  const outside = (value, j) => (axis.choices ? 0 : j === 0 ? 12 : -12); // ends of a range lie beyond the lines
  return el("div", { class: "axis" }, el("b", { style: left }, name),
    marks.map((value, j) => el("span", { style: `${left}; top: ${at(value) + outside(value, j)}px` }, text(value))));
}

const settingText = (value) => (typeof value !== "number" ? shown(value) : Math.abs(value) >= 1e-4 || !value ? String(+value.toPrecision(3)) : value.toExponential(1).replace(".0e", "e").replace("e-", "e−"));

function trialTip(trial, study) {
  const mark = trial.number === study.best ? ", the best" : trial.number === study.defaults ? ", the defaults" : "";
  const score = trial.state === "complete" ? [["score", number(trial.score)], ["of seeds", trial.scores.map((one) => number(one)).join(", ")]] : [[trial.state, trial.text]];
  const rows = [...score, ...Object.entries(trial.values).map(([name, value]) => [name, settingText(value)])];
  return [el("div", { class: "tip-head" }, `trial ${trial.number}${mark}`),
    el("table", {}, rows.map(([name, value]) => el("tr", {}, el("td", {}, name), el("td", { class: "number" }, value))))];
}

function tipAt(event, children) {
  const tip = document.getElementById("tip");
  tip.hidden = false;
  tip.replaceChildren(...children);
  const { clientX: x, clientY: y } = event, right = x + 18 + tip.offsetWidth < innerWidth;
  tip.style.left = `${right ? x + 18 : Math.max(4, x - 18 - tip.offsetWidth)}px`;
  tip.style.top = `${Math.min(Math.max(4, y - tip.offsetHeight / 2), innerHeight - tip.offsetHeight - 4)}px`;
}

function trialTable(study) {
  const best = byScore(completeOf(study)).slice(0, TOP_TRIALS), names = Object.keys(study.space);
  if (!best.length) return null;
  const head = el("tr", {}, ["trial", "score", "of seeds", ...names].map((name) => el("th", { class: names.includes(name) ? "name" : null }, name)));
  const rows = best.map((trial) => el("tr", {}, [
    `${trial.number}${trial.number === study.defaults ? ", the defaults" : ""}`, el("b", {}, number(trial.score)),
    trial.scores.map((one) => number(one)).join(", "), ...names.map((name) => settingText(trial.values[name])),
  ].map((cell) => el("td", {}, cell))));
  return el("details", { class: "more", open: best.length < study.trials.length || best.length <= 5 }, el("summary", {}, `The best ${best.length}`),
    el("div", { class: "panel scroll" }, el("table", { class: "trials" }, el("thead", {}, head), el("tbody", {}, rows))));
}

function failures(study) {
  const failed = study.trials.filter((trial) => trial.state === "fail");
  if (!failed.length) return null;
  return el("details", { class: "more" }, el("summary", {}, `${failed.length} failed`),
    el("table", {}, failed.map((trial) => el("tr", {}, el("td", { class: "number" }, trial.number), el("td", {}, trial.text)))));
}
