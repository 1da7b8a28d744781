// A new job: a model, then rows in a form or a file, looked at before they are submitted.
import { call } from "/dashboard/api.js";
import { empty, field, fill, h, section, select } from "/dashboard/dom.js";
import { fileForm } from "/dashboard/file_form.js";
import { rowForm } from "/dashboard/row_form.js";
import { session } from "/dashboard/session.js";

export async function newJob({ main, signal, query, title }) {
  title("New job");
  const heading = h("h1", {}, "New job");
  const why = session.whyNot("submit jobs", "jobs:write") ?? session.whyNot("see what the models take", "models:read");
  if (why) {
    fill(main, heading, h("p", { class: "notice" }, why));
    return;
  }
  const { body } = await call("/models", { signal });
  if (body.models.length === 0) {
    fill(main, heading, empty("There are no models yet. Send one, or register it on the server:", `curl -s -F artifact=@model.skops -F sample=@rows.csv http://${location.host}/models/NAME/versions`));
    return;
  }
  const wanted = query.get("model");
  const start = body.models.find((model) => model.name === wanted) ?? body.models[0];
  const model = select(body.models.map((entry) => [entry.name, entry.name]), start.name);
  const version = h("select", {});
  const about = h("div", {});
  const inputs = h("div", {});
  let stop = new AbortController();

  const chosen = () => body.models.find((entry) => entry.name === model.value);
  const choose = () => {
    const entry = chosen();
    fill(version, Object.entries(entry.aliases).map(([alias, number]) => h("option", { value: alias }, `${alias} (version ${number})`)),
      entry.versions.map((one) => h("option", { value: one.version }, `version ${one.version}`)));
    version.value = "production" in entry.aliases ? "production" : String(entry.versions[0].version);
    show();
  };
  const show = () => {
    stop.abort();
    stop = new AbortController();
    signal.addEventListener("abort", () => stop.abort(), { signal: stop.signal });
    const entry = chosen();
    const number = entry.aliases[version.value] ?? Number(version.value);
    const manifest = entry.versions.find((one) => one.version === number);
    const target = { name: entry.name, requested: `${entry.name}@${version.value}`, manifest };
    fill(about, manifest.description && h("p", { class: "muted" }, manifest.description), signature(manifest.signature));
    fill(inputs, inputTabs([["Type rows", () => rowForm(target, stop.signal)], ["Drop a file", () => fileForm(target, stop.signal)]], query.get("by") === "file" ? 1 : 0));
  };
  model.addEventListener("change", choose);
  version.addEventListener("change", show);
  fill(main, heading, section("Model", h("div", { class: "filters" }, field("Model", model), field("Version", version)), about), inputs);
  choose();
}

function signature({ features, outputs, methods }) {
  return h("details", {}, h("summary", {}, `Takes ${features.length} ${features.length === 1 ? "column" : "columns"}, gives ${outputs.map((output) => output.type).join(", ")}`),
    h("ul", { class: "columns" }, features.map((feature) => h("li", {}, h("code", {}, feature.name), h("span", { class: "muted" }, ` ${feature.type}${feature.nullable ? ", may be missing" : ""}`)))),
    h("p", { class: "muted" }, `Methods: ${methods.join(", ")}`));
}

/** Tabs as WAI-ARIA describes them: arrows go from one to the next. */
function inputTabs(tabs, first) {
  const panel = h("div", { role: "tabpanel", id: "input-panel", class: "panel", tabindex: "-1" });
  const made = new Map();
  const buttons = tabs.map(([name], index) => h("button", { type: "button", role: "tab", id: `tab-${index}`, "aria-controls": "input-panel", onclick: () => open(index), onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (index + step + tabs.length) % tabs.length;
    open(next);
    buttons[next].focus();
  } }, name));
  const open = (index) => {
    buttons.forEach((button, at) => {
      button.setAttribute("aria-selected", String(at === index));
      button.tabIndex = at === index ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `tab-${index}`);
    if (!made.has(index)) made.set(index, tabs[index][1]());
    panel.replaceChildren(made.get(index));
  };
  open(first);
  return h("div", {}, h("div", { role: "tablist", class: "tabs", "aria-label": "Where the rows come from" }, buttons), panel);
}

/** Method and top k, as far as the model has a choice; `read` gives what was chosen. */
export function methodFields(manifest) {
  const { methods, classes } = manifest.signature;
  const method = select(methods.map((name) => [name, name]), methods[0]);
  const top = h("input", { type: "number", min: 1, max: 1000, step: 1, inputmode: "numeric" });
  const priority = select([["normal", "normal"], ["high", "high"], ["low", "low"]], "normal");
  const element = h("div", { class: "filters" },
    methods.length > 1 && field("Method", method),
    classes && field("Top k", top, "The k most probable classes with their scores; empty: the prediction alone."),
    field("Priority", priority));
  const read = () => ({
    ...(methods.length > 1 ? { method: method.value } : {}),
    ...(classes && top.value ? { top_k: Number(top.value) } : {}),
    ...(priority.value !== "normal" ? { priority: priority.value } : {}),
  });
  return { element, read };
}
