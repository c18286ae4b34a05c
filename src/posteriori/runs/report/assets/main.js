"use strict";
// The page: its panels in order, its toolbar, and, where a server gives news, its renewal.

const NEWS_EVERY = 2000; // milliseconds
const REST = 10; // times as long as an answer took: the server may share its cores with training
const WORDS = { cov: "covariance" };

function timePanels() {
  const regions = metricsLike(/^kl\/[^/]+$/).map((name) => name.slice(3)).sort((a, b) => (b === "mean") - (a === "mean"));
  const objectives = metricsLike(/^ess\//).map((name) => name.slice(4));
  const line = (metric, name, dash) => ({ metric, name, dash });
  return {
    constraints: [
      ...regions.map((region) => ({ key: `kl-${region}`, title: `KL of the ${WORDS[region] || region}, over its bound`, zero: true, bound: 1,
        lines: [line(`kl/${region}`, "average", 0), line(`kl/${region}/max`, "largest", 1)], note: "1 is the bound; long above 2 is trouble" })),
      ...objectives.reverse().map((name) => ({ key: `temperature-${name}`, title: `Temperature of the ${name}`, zero: true, lines: [line(`temperature/${name}`)] })),
      { key: "ess", title: "Effective sample size, share of actions", zero: true, lines: objectives.map((name, i) => line(`ess/${name}`, name, i)), note: "below 0.3 few actions decide" },
      { key: "alpha", title: "Multipliers", zero: true, lines: regions.map((name, i) => line(`alpha/${name}`, WORDS[name] || name, i)) },
    ],
    spread: [
      ...metricsLike(/^(sigma|entropy)(\/\d+)?$/).map((metric) => ({ key: metric, title: spreadTitle(metric), zero: true, height: 150, lines: [line(metric)] })),
      { key: "clipped", title: "outside the box", zero: true, height: 150, lines: [line("rollout/clipped")] },
      { key: "pace", title: "pace of the policy", zero: true, height: 150, lines: [line("pace")] },
    ],
    losses: [
      { key: "critic", title: "Critic's loss", lines: [line("loss/critic")] },
      { key: "policy", title: "Policy's loss", lines: [line("loss/policy")] },
      { key: "value", title: "Value, in scaled return", lines: [line("value")] },
    ],
    speed: [
      { key: "speed", title: "Per second", zero: true, usual: true, lines: [line("speed/steps", "steps", 0), line("speed/updates", "updates", 1)] },
      { key: "length", title: "Steps of an episode", zero: true, lines: [line("evaluation/length", "greedy", 0), { ...line("rollout/length", "exploring", 1), faint: true }] },
      { key: "unit", title: "Unit of reward", zero: true, lines: [line("scale/reward")] },
    ],
  };
}

const spreadTitle = (metric) =>
  metric.includes("/") ? `${metric.split("/")[0]} ${metric.split("/")[1]}` : `${metric}, mean`;

// Set out the panels; they stay while numbers change.
function layOut() {
  plots.clear();
  const { constraints, spread, losses, speed } = timePanels();
  const put = (id, specs) => {
    document.getElementById(id).replaceChildren(...specs.map(panel));
    document.getElementById(id).closest("section").hidden = !specs.length;
  };
  put("returns", [{ key: "return", title: "Return of an episode", height: 340, alone: ["evaluation/min", "evaluation/max"],
    lines: [{ metric: "evaluation/mean", name: "greedy evaluation", smooth: false }, { metric: "rollout/return", name: "exploring, averaged", faint: true, average: 10 }], note: returnNote() }]);
  put("reaches", [
    { key: "worst", title: "Worst episode of an evaluation", lines: [{ metric: "evaluation/min", smooth: false }] },
    { key: "std", title: "Spread of the episodes of an evaluation", zero: true, lines: [{ metric: "evaluation/std", smooth: false }] },
    { key: "best", title: "Best episode of an evaluation", lines: [{ metric: "evaluation/max", smooth: false }] }]);
  put("constraints", constraints);
  put("spread", spread);
  put("losses", losses);
  put("speeds", speed);
}

function returnNote() {
  return data.groups.some((group) => group.runs.length > 1)
    ? "Line: median of seeds, where at least half of them are; band: lowest to highest seed."
    : "Band: worst to best episode of the evaluation.";
}

// Write everything that depends on the numbers.
function fill() {
  const envs = [...new Set([...data.studies, ...data.runs].map((one) => one.env))];
  document.title = `${envs.join(", ") || "no runs"} · Posteriori`;
  document.getElementById("title").textContent = envs.join(", ") || "No runs yet";
  const they = "They appear here as soon as posteriori train has started them.";
  const any = data.runs.length || data.studies.length;
  document.getElementById("made").textContent = any ? `${counts()}, ${data.live ? "live" : "written"} ${data.created}, posteriori ${data.version}` : they;
  const set = (id, ...children) => document.getElementById(id).replaceChildren(...children.flat().filter(Boolean));
  fillOnce("studies", () => [...data.studies.map(studySection), runsHeading()], [data.studies, data.runs.length]);
  set("cards", data.groups.map(card));
  set("run-table", runsTable());
  set("warnings", warningList());
  set("strips", distributions());
  if (data.groups.length) set("settings", settingsTable());
  fillOnce("video", videoPanel, data.runs.map((run) => [run.path, run.videos.map(({ step }) => step), settings.hidden.has(run.path)]));
  fillOnce("origins", origins, data.runs.map((run) => run.path));
  redraw();
}

function counts() {
  const of = (number, name) => `${number} ${name}${number === 1 ? "" : "s"}`;
  const trials = totalOf(data.studies.map((study) => study.trials.length));
  return trials ? `${of(trials, "trial")}, ${of(data.runs.length, "run")} shown` : of(data.runs.length, "run");
}

// Leave what a reader may have opened or started as it is, unless what it shows has changed.
function fillOnce(id, make, of) {
  const place = document.getElementById(id), mark = JSON.stringify(of);
  if (place.dataset.of === mark) return;
  place.dataset.of = mark;
  place.replaceChildren(...[make()].flat().filter(Boolean));
}

function show(news) {
  const shape = (of) => JSON.stringify([of.groups, of.runs.map((run) => Object.keys(run.series))]);
  const same = shape(news) === shape(data);
  data = news;
  document.body.classList.toggle("no-runs", !data.runs.length);
  document.body.classList.toggle("studied", !!data.studies.length);
  if (!same) layOut();
  fill();
}

function choose(name, value) {
  settings[name] = value;
  if (name === "axis") zoomTo(null);
  for (const button of document.querySelectorAll(`[data-set="${name}"]`))
    button.setAttribute("aria-pressed", String(button.value === String(value)));
  remake();
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  remake();
  remakeHistories();
}

function toolbar() {
  for (const button of document.querySelectorAll("[data-set]"))
    button.addEventListener("click", () => choose(button.dataset.set, button.value));
  document.getElementById("smoothing").addEventListener("input", (event) => {
    settings.smoothing = Number(event.target.value);
    redraw();
  });
  document.getElementById("unzoom").addEventListener("click", () => zoomTo(null));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => theme());
  document.getElementById("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
    theme(now === "dark" ? "light" : "dark");
  });
}

async function news() {
  const asked = performance.now();
  let took = 0;
  try {
    const answer = await fetch("data.json");
    document.body.classList.remove("lost");
    if (!answer.ok) throw new Error(answer.statusText);
    const text = await answer.text();
    took = performance.now() - asked;
    if (text !== news.last) show(JSON.parse(text));
    news.last = text;
  } catch {
    document.body.classList.add("lost"); // the server has ended; what is shown stays
  }
  setTimeout(news, Math.max(NEWS_EVERY, REST * took));
}

toolbar();
const written = document.getElementById("data").textContent.trim();
if (written) show(JSON.parse(written)); else news();
window.posteriori = { plots, histories, settings, choose, zoomTo, get data() { return data; } };
