// The page: controls in, pictures out. The address holds all that is chosen, so that a link shows the same again.

import { Endpoint, Problem } from "./endpoint.js";
import { latent, way } from "./latents.js";
import { element, layOut, pixelImage, pngImage, resizes, toPixels } from "./pictures.js";

const NO_TRUNCATION = 8; // a normal number lies beyond +-8 once in 10^15 draws
const STEPS = 9;
const SIDES = ["left", "right"];
const DEFAULTS = { endpoint: "http://localhost:8501", class: "0", truncation: "1", seed: "0", count: "16", from: "1", to: "2" };

const $ = (id) => document.getElementById(id);
const models = { left: null, right: null }; // as Endpoint.describe gives them; null: not there
let listed = {}; // models.json: {model: {title, class_names}}
let endpoint = null;
let uploads = []; // [{name, bitmap}, …]

function column(side) {
  const parts = {
    tag: element("span", { className: "tag" }),
    name: element("strong"),
    facts: element("span", { className: "facts" }),
    problem: element("p", { className: "problem", hidden: true }),
    grid: element("div", { className: "grid" }),
  };
  parts.problem.setAttribute("role", "alert");
  const caption = element("figcaption", {}, parts.tag, " ", parts.name, " ", parts.facts);
  parts.figure = element("figure", { id: `grid-${side}` }, caption, parts.problem, parts.grid);
  return parts;
}

const columns = Object.fromEntries(SIDES.map((side) => [side, column(side)]));

// What the controls say.

function allClasses() {
  return $("class").value === "all" && !$("class").hidden;
}

/** The class to draw where there is one only. */
function oneClass() {
  return $("class").hidden ? Number($("class-number").value) : Number($("class").value === "all" ? 0 : $("class").value);
}

function namesOfClasses() {
  const labelled = SIDES.map((side) => models[side]).find((model) => model?.hasLabels);
  return (labelled && listed[labelled.name]?.class_names) || [];
}

function nameOfClass(label) {
  return namesOfClasses()[label] ?? `class ${label}`;
}

function truncation() {
  const value = Number($("truncation").value);
  return value > 2.05 ? NO_TRUNCATION : value;
}

function showTruncation() {
  const text = truncation() === NO_TRUNCATION ? "none" : `±${truncation().toFixed(1)}`;
  $("truncation-value").textContent = text;
  $("truncation").setAttribute("aria-valuetext", text);
}

function showClasses() {
  const labelled = SIDES.some((side) => models[side]?.hasLabels);
  const names = namesOfClasses();
  $("class-field").hidden = !labelled;
  $("class").hidden = names.length === 0;
  $("class-number").hidden = names.length > 0;
  const wanted = $("class").dataset.wanted;
  $("class").replaceChildren(
    ...names.map((name, i) => element("option", { value: i, textContent: name })),
    element("option", { value: "all", textContent: "every class" }),
  );
  $("class").value = wanted === "all" || Number(wanted) < names.length ? wanted : "0";
  $("class-number").value = wanted === "all" ? "0" : wanted;
}

function keepInAddress() {
  const query = new URLSearchParams(location.search);
  for (const id of ["endpoint", "left", "right", "truncation", "seed", "count", "from", "to"]) query.set(id, $(id).value);
  query.set("class", $("class").dataset.wanted);
  history.replaceState(null, "", `?${query}`);
}

// Messages.

let reconnect = null;

/** Shows a problem, or a wait, at the top; null: nothing to say. */
function say(problem) {
  clearTimeout(reconnect);
  const box = $("message");
  box.hidden = problem === null;
  if (problem === null) return;
  box.dataset.kind = problem.kind;
  const text = box.querySelector("p");
  if (text.textContent !== problem.message) text.textContent = problem.message; // else a screen reader says it again
  box.querySelector("button").hidden = problem.kind === "waiting";
  if (problem.kind === "away") reconnect = setTimeout(connect, 3000); // it may be starting
}

/** What went wrong with one model: in its column, or at the top where it concerns the whole endpoint. */
function blame(error, show) {
  if (!(error instanceof Problem)) throw error;
  if (error.kind === "away" || error.kind === "busy") say(error);
  else show(error.message);
}

// Drawing. Each part of the page redraws by itself; a newer redraw ends the older one.

const running = {};

async function redraw(part, busyElement, draw) {
  running[part]?.abort();
  const control = (running[part] = new AbortController());
  busyElement.setAttribute("aria-busy", "true");
  try {
    const done = await draw(control.signal);
    if (done && !control.signal.aborted && $("message").dataset.kind === "waiting") say(null);
  } catch (error) {
    if (!control.signal.aborted) throw error;
  } finally {
    if (running[part] === control) busyElement.removeAttribute("aria-busy");
  }
}

/** The rows' labels as an input, for a model that takes them. */
function labelInput(model, labels) {
  return model.hasLabels ? { label: labels } : {};
}

function checkDrawn(model, labels, good) {
  const bad = good.findIndex((fine) => !fine);
  if (bad >= 0) throw new Problem("refused", `${model.name} cannot draw ${nameOfClass(labels[bad])}: it has no such class.`);
}

async function drawSamples(side) {
  const model = models[side];
  const { figure, grid, problem, facts } = columns[side];
  if (!model) return;
  await redraw(`samples-${side}`, figure, async (signal) => {
    const perRow = Math.sqrt(Number($("count").value));
    const classes = allClasses() && model.hasLabels ? namesOfClasses().map((_, i) => i) : Array(perRow).fill(oneClass());
    const first = Number($("seed").value);
    const each = allClasses() && model.hasLabels; // then every row has the same seeds
    const rows = classes.flatMap((label, row) =>
      Array.from({ length: perRow }, (_, i) => ({ label, seed: first + (each ? i : row * perRow + i) })),
    );
    const labels = rows.map((row) => row.label);
    const inputs = { seed: rows.map((row) => row.seed), truncation: rows.map(truncation), ...labelInput(model, labels) };
    const start = performance.now();
    try {
      const pngs = await endpoint.predict(model.name, "sample", inputs, signal);
      checkDrawn(model, labels, pngs.map((png) => png.b64 !== ""));
      const name = (row) => `seed ${row.seed}${model.hasLabels ? `, ${nameOfClass(row.label)}` : ""}`;
      layOut(grid, pngs.map((png, i) => pngImage(png, name(rows[i]))), perRow, each ? classes.map(nameOfClass) : null);
      problem.hidden = true;
      facts.textContent = `version ${model.version}, ${rows.length} pictures in ${Math.round(performance.now() - start)} ms`;
      return true;
    } catch (error) {
      if (!signal.aborted) blame(error, (text) => Object.assign(problem, { textContent: text, hidden: false }));
      return false;
    }
  });
}

/** The way between two latents, decoded by one model: a strip with a heading. */
async function strip(model, start, end, heading, signal) {
  const labels = Array(STEPS).fill(oneClass());
  const inputs = { z: way(start, end, STEPS), ...labelInput(model, labels) };
  const images = await endpoint.predict(model.name, "decode", inputs, signal);
  checkDrawn(model, labels, images.map((image) => image.flat(2).some((value) => value > 0)));
  const grid = element("div", { className: "grid strip" });
  resizes.observe(grid);
  const figure = element("figure", { className: "whole" }, element("figcaption", {}, ...heading), grid);
  const show = () => layOut(grid, images.map((image, i) => pixelImage(image, `step ${i + 1} of ${STEPS}`)), STEPS);
  return { figure, show };
}

/** What models.json calls the kind of a model; empty, and so hidden, for one that it does not list. */
function titleTag(model) {
  const className = model.canReconstruct ? "tag reconstructs" : "tag";
  return element("span", { className, textContent: listed[model.name]?.title ?? "" });
}

function heading(model, text) {
  const label = model.hasLabels ? `, as ${nameOfClass(oneClass())}` : "";
  return [titleTag(model), ` ${text}${label}`];
}

async function drawWays() {
  await redraw("ways", $("ways"), async (signal) => {
    const strips = [];
    let good = true;
    for (const model of SIDES.map((side) => models[side]).filter(Boolean)) {
      const [start, end] = ["from", "to"].map((id) => latent(Number($(id).value), model.latentDim, truncation()));
      try {
        strips.push(await strip(model, start, end, heading(model, model.name), signal));
      } catch (error) {
        if (signal.aborted) return false;
        good = false;
        blame(error, (text) => strips.push({ figure: element("p", { className: "problem", textContent: text }), show() {} }));
      }
    }
    if (strips.length) $("ways").replaceChildren(...strips.map((made) => made.figure));
    strips.forEach((made) => made.show());
    return good;
  });
}

async function drawOwn() {
  const model = SIDES.map((side) => models[side]).find((known) => known?.canReconstruct);
  const anyModel = SIDES.some((side) => models[side]);
  $("file").disabled = !model;
  $("drop").hidden = !model;
  if (!model && anyModel) {
    const text = "Neither model can do this: choose one with an encoder, such as a VAE.";
    return void $("own").replaceChildren(element("p", { className: "problem", textContent: text }));
  }
  if (!model || !uploads.length) return void $("own").replaceChildren();
  await redraw("own", $("own"), async (signal) => {
    const every = allClasses() && model.hasLabels;
    const labels = every ? namesOfClasses().map((_, i) => i) : [oneClass()];
    try {
      const shown = [];
      for (const { name, bitmap } of uploads) {
        const pixels = toPixels(bitmap, model.resolution);
        const inputs = { image: labels.map(() => pixels), ...labelInput(model, labels) };
        const pngs = await endpoint.predict(model.name, "reconstruct", inputs, signal);
        checkDrawn(model, labels, pngs.map((png) => png.b64 !== ""));
        const grid = element("div", { className: "grid strip" });
        resizes.observe(grid);
        const images = pngs.map((png, i) => pngImage(png, model.hasLabels ? `as ${nameOfClass(labels[i])}` : "reconstruction"));
        const label = model.hasLabels ? (every ? ", as each class in turn" : `, as ${nameOfClass(labels[0])}`) : "";
        const text = `${name} at ${model.resolution} px, then what ${model.name} keeps of it${label}`;
        const caption = element("figcaption", { textContent: text });
        const figure = element("figure", { className: every ? "whole" : "" }, caption, grid);
        const show = () => layOut(grid, [pixelImage(pixels, name), ...images], Math.max(3, images.length + 1));
        shown.push({ figure, pixels, show });
      }
      if (uploads.length === 2) {
        const answer = await endpoint.predict(model.name, "encode", { image: shown.map((made) => made.pixels) }, signal);
        shown.push(await strip(model, ...answer.mean, heading(model, "The way from one to the other"), signal));
      }
      $("own").replaceChildren(...shown.map((made) => made.figure));
      shown.forEach((made) => made.show());
      return true;
    } catch (error) {
      if (!signal.aborted) {
        blame(error, (text) => $("own").replaceChildren(element("p", { className: "problem", textContent: text })));
      }
      return false;
    }
  });
}

function drawAll() {
  keepInAddress();
  if ($("message").dataset.kind === "busy") say(null);
  if (!$("controls").reportValidity() || !["from", "to"].every((id) => $(id).reportValidity())) return;
  for (const side of SIDES) drawSamples(side);
  drawWays();
  drawOwn();
}

let waiting = null;

function drawSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 150);
}

async function connect() {
  clearTimeout(reconnect);
  keepInAddress();
  Object.values(running).forEach((control) => control.abort());
  running.connect?.abort();
  const control = (running.connect = new AbortController());
  endpoint = new Endpoint($("endpoint").value.trim(), (seconds) => {
    // Another part may have given up already: that stays, with its button.
    const given = !$("message").hidden && $("message").dataset.kind !== "waiting";
    if (!given) say({ kind: "waiting", message: `The endpoint is busy. Trying again in ${seconds} s …` });
  });
  const problems = [];
  await Promise.all(
    SIDES.map(async (side) => {
      const { tag, name, facts, problem, grid, figure } = columns[side];
      const wanted = $(side).value.trim();
      const show = (text) => Object.assign(problem, { textContent: text, hidden: false });
      figure.setAttribute("aria-busy", "true");
      try {
        if (!wanted) throw new Problem("refused", "Type a model's name above.");
        const model = await endpoint.describe(wanted, control.signal);
        models[side] = model;
        tag.replaceWith((columns[side].tag = titleTag(model)));
        name.textContent = model.name;
        problem.hidden = true;
      } catch (error) {
        if (control.signal.aborted) return;
        models[side] = null;
        if (!(error instanceof Problem)) throw error;
        if (error.kind === "away" || error.kind === "busy") return void problems.push(error);
        tag.textContent = facts.textContent = "";
        name.textContent = wanted;
        grid.replaceChildren();
        show(error.message);
      } finally {
        if (!control.signal.aborted) figure.removeAttribute("aria-busy");
      }
    }),
  );
  if (control.signal.aborted) return;
  say(problems[0] ?? null);
  if (SIDES.some((side) => models[side])) {
    showClasses();
    drawAll();
  }
}

async function takeFiles(files) {
  const chosen = [...files].slice(0, 2);
  try {
    uploads = await Promise.all(chosen.map(async (file) => ({ name: file.name, bitmap: await createImageBitmap(file) })));
  } catch {
    uploads = [];
    const names = chosen.map((file) => file.name).join(", ");
    const text = `${names}: this browser cannot read that as a picture. Expected PNG, JPEG or the like.`;
    $("own").replaceChildren(element("p", { className: "problem", textContent: text }));
    return;
  }
  drawOwn();
}

async function start() {
  try {
    listed = await (await fetch("models.json", { cache: "no-cache" })).json();
  } catch {
    // Without the list a reader types the models' names, and classes are numbers.
  }
  const names = Object.keys(listed);
  $("models").replaceChildren(...names.map((name) => element("option", { value: name })));
  $("grids").replaceChildren(...SIDES.map((side) => columns[side].figure));
  SIDES.forEach((side) => resizes.observe(columns[side].grid));

  const query = new URLSearchParams(location.search);
  const given = { ...DEFAULTS, left: names[0] ?? "", right: names[1] ?? "", ...Object.fromEntries(query) };
  for (const id of ["endpoint", "left", "right", "truncation", "seed", "count", "from", "to"]) $(id).value = given[id];
  if (!$("count").value) $("count").value = DEFAULTS.count;
  $("class").dataset.wanted = /^(all|\d+)$/.test(given.class) ? given.class : "0";
  showTruncation();

  $("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["seed", "count", "from", "to"]) $(id).addEventListener("input", drawSoon);
  $("truncation").addEventListener("input", () => (showTruncation(), drawSoon()));
  for (const id of ["class", "class-number"]) {
    $(id).addEventListener("input", () => (($("class").dataset.wanted = $(id).value || "0"), drawSoon()));
  }
  for (const id of ["endpoint", ...SIDES]) $(id).addEventListener("change", connect);
  for (const button of [$("connect"), $("message").querySelector("button")]) button.addEventListener("click", connect);
  const turn = (pages) => {
    $("seed").value = Math.max(0, Number($("seed").value) + pages * Number($("count").value));
    drawSoon();
  };
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  const random = (id) => ($(id).value = Math.floor(Math.random() * 1e6));
  $("random").addEventListener("click", () => (random("seed"), drawSoon()));
  $("random-ends").addEventListener("click", () => (random("from"), random("to"), drawSoon()));
  $("file").addEventListener("change", () => takeFiles($("file").files));
  $("drop").addEventListener("dragover", (event) => event.preventDefault());
  $("drop").addEventListener("drop", (event) => (event.preventDefault(), takeFiles(event.dataTransfer.files)));
  connect();
}

start();
