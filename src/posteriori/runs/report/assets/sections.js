"use strict";
// What stands beside the plots over time: scores, distributions, videos, settings, origins.

const STATES = { running: "good", finished: "plain", stopped: "plain", failed: "bad" };

const totalOf = (values) => values.reduce((a, b) => a + b, 0);
const known = (values) => values.filter((value) => value !== null && value !== undefined);

// Headline numbers of a group; a click hides the group everywhere.
function card(group) {
  const runs = runsOf(group), shown = shownRuns(group);
  const finals = runs.map((run) => run.final).filter(Boolean);
  const scores = finals.length ? finals.map((final) => final.mean) : known(runs.map((run) => last(run, "evaluation/mean")));
  const best = known(runs.map((run) => last(run, "evaluation/best")));
  const facts = [
    ["best on the way", number(best.length ? Math.max(...best) : null)],
    ["steps", progressText(runs)],
    ["time", clock(mean(runs.map((run) => run.seconds || 0)))],
    ["state", stateText(runs)],
    ["health", healthChip(runs)],
  ];
  const dim = shown.length ? "" : " off";
  return el("button", { class: `card${dim}`, type: "button", "aria-pressed": String(!!shown.length),
    title: "Show or hide in every plot", onclick: () => toggle(runs, !shown.length) },
    el("span", { class: "card-label" }, swatch(group), el("span", {}, group.label)),
    el("span", { class: "score" }, number(scores.length ? mean(scores) : null)),
    el("span", { class: "faint" }, scoreNote(finals, scores)),
    el("span", { class: "facts" }, facts.map(([name, value]) => [el("span", { class: "faint" }, name), el("span", {}, value)])));
}

function scoreNote(finals, scores) {
  if (!scores.length) return "no evaluation yet";
  if (scores.length > 1)
    return `± ${number(deviation(scores))} over ${scores.length} seeds, ${finals.length ? "final score" : "last evaluation"}`;
  if (!finals.length) return "last evaluation";
  return `± ${number(finals[0].std)} over ${finals[0].returns.length} final episodes`;
}

function progressText(runs) {
  const steps = runs.map((run) => run.step), low = Math.min(...steps), high = Math.max(...steps);
  const reached = compact(low) === compact(high) ? compact(high) : `${compact(low)} to ${compact(high)}`;
  const whole = runs.every((run) => run.step >= run.total);
  return whole ? reached : `${reached} of ${compact(Math.max(...runs.map((run) => run.total)))}`;
}

// How many runs stand how, and the longest time that is left at the last speed.
function stateText(runs) {
  const counts = Object.keys(STATES).map((state) => [state, runs.filter((run) => run.state === state).length]).filter(([, n]) => n);
  const text = counts.map(([state, n]) => (runs.length > 1 ? `${n} ${state}` : state)).join(", ");
  const left = runs.filter((run) => run.state === "running" && last(run, "speed/steps"))
    .map((run) => (run.total - run.step) / last(run, "speed/steps"));
  return left.length ? `${text}, ${clock(Math.max(...left))} left` : text;
}

function healthChip(runs) {
  const failed = runs.filter((run) => run.state === "failed").length;
  const warnings = totalOf(runs.map((run) => run.warnings.length));
  if (failed) return el("span", { class: "chip bad" }, failed > 1 ? `${failed} failed` : "failed");
  if (warnings) return el("span", { class: "chip warn" }, `${warnings} warning${warnings > 1 ? "s" : ""}`);
  const checked = runs.every((run) => run.checked);
  return checked ? el("span", { class: "chip good" }, "healthy") : el("span", { class: "chip" }, "not checked");
}

function toggle(runs, show) {
  for (const run of runs) show ? settings.hidden.delete(run.path) : settings.hidden.add(run.path);
  fill();
}

// One row a run: how far it is, and whether it is drawn.
function runsTable() {
  const heads = ["", "run", "seed", "state", "progress", "last", "best", "final", "time", "started"];
  const body = data.groups.flatMap((group) => runsOf(group).map((run) => runRow(group, run)));
  return el("div", { class: "scroll" }, el("table", { class: "runs" },
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", {}, head)))), el("tbody", {}, body)));
}

function runRow(group, run) {
  const box = el("input", { type: "checkbox", "aria-label": `show ${run.name}`, onchange: (event) => toggle([run], event.target.checked) });
  box.checked = !settings.hidden.has(run.path);
  const share = Math.min(1, run.step / Math.max(1, run.total));
  const bar = el("span", { class: "bar" }, el("span", { style: `width: ${100 * share}%; background: var(${colourOf(group)})` }));
  const state = el("span", { class: `chip ${STATES[run.state]}`, title: run.text }, run.state);
  const cells = [box, [swatch(group), run.name], run.seed, state,
    [bar, ` ${compact(run.step)} / ${compact(run.total)}`], number(last(run, "evaluation/mean")),
    number(last(run, "evaluation/best")), number(run.final?.mean), clock(run.seconds), minute(run.record.started)];
  return el("tr", {}, cells.map((cell) => el("td", {}, cell ?? "–")));
}

// Each final episode as a dot, with the quartiles as a box and the mean as a line.
function distributions() {
  const rows = shownGroups().flatMap((group) => shownRuns(group).filter((run) => run.final).map((run) => ({ group, run })));
  if (!rows.length) return el("p", { class: "empty" }, "No final evaluation yet: it comes when a run is done.");
  const all = rows.flatMap(({ run }) => run.final.returns), low = Math.min(...all), high = Math.max(...all);
  return el("div", { class: "strips" }, rows.map((row) => strip(row, low, high)), scale(low, high));
}

function strip({ group, run }, low, high) {
  const returns = [...run.final.returns].sort((a, b) => a - b), colour = `var(${colourOf(group)})`;
  const x = (value) => 1 + (98 * (value - low)) / (high - low || 1), at = (share) => quantile(returns, share);
  const drawing = svg("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", class: "strip" },
    svg("rect", { x: x(at(0.25)), width: Math.max(0.3, x(at(0.75)) - x(at(0.25))), y: 4, height: 22, fill: colour, opacity: 0.25 }),
    svg("line", { x1: x(at(0.5)), x2: x(at(0.5)), y1: 4, y2: 26, stroke: colour, "stroke-width": 2, "vector-effect": "non-scaling-stroke" }));
  const dots = returns.map((value, i) => el("span", { class: "dot", title: number(value),
    style: `left: ${x(value)}%; top: ${20 + ((i * 37) % 60)}%; background: ${colour}` }));
  const label = runsOf(group).length > 1 ? `${group.label}, seed ${run.seed}` : group.label;
  const note = `${number(run.final.mean)} ± ${number(run.final.std)}, median ${number(at(0.5))}, worst ${number(returns[0])}, best ${number(returns[returns.length - 1])}`;
  return el("div", { class: "strip-row", "data-returns": returns.length },
    el("div", { class: "strip-label" }, el("span", {}, swatch(group), label), el("span", { class: "faint" }, note)),
    el("div", { class: "strip-box" }, drawing, dots));
}

function scale(low, high) {
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => el("span", {}, compact(+(low + share * (high - low)).toPrecision(3))));
  return el("div", { class: "strip-scale faint" }, ticks);
}

function warningList() {
  const rows = data.groups.flatMap((group) => shownRuns(group).flatMap((run) => run.warnings.map((warning) => ({ group, run, ...warning }))));
  if (!rows.length) return null;
  rows.sort((a, b) => a.step - b.step);
  return el("details", { class: "panel warnings", open: rows.length <= 6 },
    el("summary", {}, `${rows.length} health warning${rows.length > 1 ? "s" : ""}`, el("span", { class: "faint" }, " dotted lines in the plots")),
    rows.map((row) => el("div", { class: "warning" },
      el("div", {}, el("b", {}, row.name), el("span", { class: "faint" }, swatch(row.group), `${row.run.name}, step ${row.step.toLocaleString("en")}`)),
      row.text.split(/ (?=Likely cause: |Try: )/).map((part) => el("div", {}, marked(part))))));
}

// The videos of runs in the order of their steps, beside the curve; what a reader has chosen stays.
function videoPanel() {
  const found = shownGroups().flatMap((group) => shownRuns(group).flatMap((run) => run.videos.map((video) => ({ run, ...video }))));
  if (!found.length) return null;
  const names = found.map(({ run, step }) => `${data.runs.length > 1 ? `${run.name}, ` : ""}${step === null ? "at the end" : `after ${step.toLocaleString("en")} steps`}`);
  const player = el("video", { controls: true, muted: true, loop: true, playsinline: true, preload: "metadata" });
  const choice = el("select", { "aria-label": "video", onchange: () => pick(Number(choice.value)) }, names.map((name, i) => el("option", { value: i }, name)));
  const arrow = (text, label, by) => el("button", { type: "button", "aria-label": label, title: label, onclick: () => pick(Number(choice.value) + by) }, text);
  const back = arrow("‹", "video before", -1), on = arrow("›", "next video", 1);
  const mark = ({ run, step }) => `${run.path} ${step}`;
  const show = (i) => {
    choice.value = i;
    back.disabled = i === 0;
    on.disabled = i === found.length - 1;
    player.src = found[i].src;
  };
  const pick = (i) => {
    settings.video = mark(found[i]);
    show(i);
    player.play().catch(() => {}); // a browser may want a click on the video itself
  };
  const chosen = found.findIndex((video) => mark(video) === settings.video), ends = found.map(({ step }) => step === null);
  show(chosen >= 0 ? chosen : ends.includes(true) ? ends.indexOf(true) : found.length - 1);
  return el("figure", { class: "panel video" }, el("div", { class: "panel-head" }, el("h3", {}, "The policy, greedy"), el("span", { class: "pick" }, back, choice, on)), player);
}

// Settings as rows, groups as columns; those that differ first.
function settingsTable() {
  const columns = data.groups.map((group) => runsOf(group)[0].record.settings);
  const names = [...new Set(columns.flatMap((column) => Object.keys(column)))].filter((name) => name !== "seed");
  const differs = (name) => new Set(columns.map((column) => JSON.stringify(column[name] ?? null))).size > 1;
  const different = names.filter(differs), equal = names.filter((name) => !differs(name));
  const rows = (list, mark) => list.map((name) => el("tr", { class: mark }, el("th", {}, name), columns.map((column) => el("td", {}, shown(column[name])))));
  const head = el("tr", {}, el("th", {}, "setting"), data.groups.map((group) => el("th", {}, swatch(group), group.label)));
  const table = (body) => el("div", { class: "scroll" }, el("table", { class: "settings" }, el("thead", {}, head.cloneNode(true)), el("tbody", {}, body)));
  if (columns.length === 1) return table(rows(equal, ""));
  return el("div", {}, different.length ? table(rows(different, "differs")) : el("p", { class: "empty" }, "All settings are equal."),
    el("details", { class: "more" }, el("summary", {}, `${equal.length} settings that are equal`), table(rows(equal, ""))));
}

function shown(value) {
  if (value === undefined) return "–";
  return Array.isArray(value) ? value.join(" × ") : typeof value === "number" ? String(value) : String(value);
}

// Where each run came from and what repeats it.
function origins() {
  return data.groups.flatMap((group) => runsOf(group).map((run) => el("details", { class: "origin", open: data.runs.length === 1 },
    el("summary", {}, swatch(group), run.name, el("span", { class: "faint" }, ` ${run.env}, seed ${run.seed}`)),
    el("div", { class: "command" }, el("code", {}, run.command), el("button", { type: "button", onclick: (event) => copy(event, run.command) }, "copy")),
    el("dl", {}, facts(run.record).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])))));
}

function facts({ started, hardware, versions, source, path }) {
  const { cpu, cores, memory_gib: memory, platform, devices } = hardware;
  const machine = known([cpu, cores && `${cores} cores`, memory && `${memory} GiB`]).filter(Boolean).join(", ");
  const commit = source?.commit ? source.commit + (source.changed ? ", with changes" : "") : "installed package, commit not known";
  return [["folder", path], ["started", started], ["machine", machine], ["devices", (devices || []).join(", ")],
    ["system", platform], ["commit", commit], ["versions", Object.entries(versions).map((pair) => pair.join(" ")).join(", ")]]
    .map(([name, value]) => [name, value || "not recorded"]);
}

async function copy(event, text) {
  await navigator.clipboard?.writeText(text);
  event.target.textContent = "copied";
  setTimeout(() => { event.target.textContent = "copy"; }, 1200);
}
