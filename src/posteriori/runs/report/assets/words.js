"use strict";
// Numbers, times and elements as text; nothing of the data is ever parsed as HTML.

function number(value, digits = 1) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.01 || size >= 1e6)) return compact(value);
  if (size < 1) digits = 3;
  else if (size < 10) digits = 2;
  else if (size >= 10000) digits = 0;
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: size >= 10 ? digits : 0 });
}

function compact(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  for (const [unit, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= unit) return `${+(value / unit).toPrecision(4)}${name}`;
  return size < 1e-3 ? value.toExponential(1).replace("e-", "e−") : String(+value.toPrecision(4));
}

function clock(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const all = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(all / 3600), minutes = Math.floor(all / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(all % 60)}` : `${minutes}:${two(all % 60)}`;
}

// A time as config.json has it, to the minute.
const minute = (time) => time?.slice(0, 16).replace("T", " ");

// What stands between backticks is code.
const marked = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part));

const axisText = (value) =>
  settings.axis === "seconds" ? clock(value) : compact(Math.round(value));

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") made.style.cssText = value;
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children.flat(Infinity));
  return made;
}

const swatch = (group) => el("span", { class: "swatch", style: `background: var(${colourOf(group)})` });
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
