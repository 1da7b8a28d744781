// One model: its versions, which of them answers, and what becomes of it.
import { call } from "/dashboard/api.js";
import { versionChart } from "/dashboard/charts.js";
import { comparison } from "/dashboard/comparison.js";
import { field, fill, h, section, select, table } from "/dashboard/dom.js";
import { drift } from "/dashboard/drift.js";
import { fine, size, when, whole } from "/dashboard/format.js";
import { action, ask, tell, toast } from "/dashboard/messages.js";
import { poll } from "/dashboard/poll.js";
import { retrain } from "/dashboard/retrain.js";
import { schedule } from "/dashboard/schedule.js";
import { session } from "/dashboard/session.js";

const PAUSE = 5000;
// So many versions and moves are shown at once; the rest is a button away.
const SHOWN = 10;

export async function model({ main, signal, name, title }) {
  title(name);
  const why = session.whyNot("read models", "models:read");
  if (why) {
    fill(main, h("h1", {}, name), h("p", { class: "notice" }, why));
    return;
  }
  const here = `/models/${encodeURIComponent(name)}`;
  const { body: first } = await call(here, { signal });
  const parts = Object.fromEntries(["head", "versions", "metrics", "gate", "drift", "history", "loaded"].map((part) => [part, h("div", {})]));
  fill(main, parts.head, section("Versions", parts.versions),
    h("div", { class: "two" }, section("Metrics over versions", parts.metrics), section("Champion and challenger", parts.gate)),
    section("Drift per feature", parts.drift), section("Moves of production", parts.history),
    section("Retrain", retrain(first, here, signal)), section("Schedule", schedule(first, here, signal)), section("Where it is loaded", parts.loaded));
  let known = null;
  const metric = { chosen: null };
  const all = { versions: false };
  const show = (document) => {
    const { loaded, ...rest } = document;
    fill(parts.loaded, residents(loaded));
    if (JSON.stringify(rest) === known) return;
    known = JSON.stringify(rest);
    fill(parts.head, head(document, here, again));
    fill(parts.versions, versions(document, here, again, all));
    fill(parts.metrics, metrics(document, metric));
    fill(parts.gate, comparison(document));
    if ("production" in document.aliases) call(`${here}/aliases/production`, { signal }).then(({ body }) => fill(parts.history, history(body)), tell);
  };
  const ask = poll(() => here, show, signal, PAUSE);
  const again = (anew = false) => {
    if (anew) known = null;
    return ask();
  };
  show(first);
  drift(here, parts.drift, signal).catch(tell);
}

function head(document, here, again) {
  const production = document.aliases.production;
  const champion = document.versions.find((version) => version.version === production);
  const others = Object.entries(document.aliases).filter(([alias]) => alias !== "production");
  const why = session.whyNotChange("roll back", document, "models:write");
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/models" }, "Models")),
    h("div", { class: "title-row" }, h("h1", {}, document.name), h("span", { class: "badge succeeded" }, production === undefined ? "nothing in production" : `production: version ${production}`)),
    champion?.description && h("p", { class: "muted" }, champion.description),
    h("p", { class: "muted" }, `Belongs to ${document.owner ?? "nobody in particular"}`, others.map(([alias, version]) => ` · ${alias}: version ${version}`)),
    h("div", { class: "actions" },
      h("a", { class: "button primary", href: `#/new?model=${encodeURIComponent(document.name)}` }, "New job with it"),
      document.versions.length > 1 && action("Roll back", () => rollBack(document, here, again), { why })),
  ];
}

function versions(document, here, again, all) {
  const names = metricNames(document.versions).slice(0, 3);
  const production = document.aliases.production;
  const why = session.whyNotChange("promote", document, "models:write");
  const shown = document.versions.filter((version, index) => all.versions || index < SHOWN || version.version === production);
  return [
    why && h("p", { class: "why" }, why),
    table(`Versions of ${document.name}`, [["Version", "number"], ["Made", ""], ["From", ""], ...names.map((name) => [name, "number"]), ["Size", "number"], ["Production", ""]], shown.map((version) => [
      whole(version.version),
      when(version.created_at),
      [source(version), version.description && h("span", { class: "clamp muted" }, version.description)],
      ...names.map((name) => fine(version.metrics[name])),
      size(version.size_bytes),
      version.version === production ? h("span", { class: "mark good" }, "in production")
        : h("button", { type: "button", disabled: Boolean(why), "data-key": `promote-${version.version}`, "aria-label": `Promote version ${version.version}`, onclick: () => promote(document, version, here).then(again, tell) }, "Promote"),
    ])),
    shown.length < document.versions.length && h("div", { class: "actions" }, h("button", { type: "button", onclick: () => {
      all.versions = true;
      again(true);
    } }, `Show all ${whole(document.versions.length)} versions`)),
  ];
}

function source(version) {
  if (version.source_job) return [h("a", { href: `#/jobs/${version.source_job}` }, version.parent ? "a training" : "a job"), version.parent && `, from ${version.parent}`];
  return version.created_by || version.format;
}

function metricNames(found) {
  return [...new Set(found.flatMap((version) => Object.keys(version.metrics)))];
}

/** The tag of an alias, so that a move is refused if somebody was faster. */
async function tagOf(here) {
  return (await call(`${here}/aliases/production`)).headers.get("ETag");
}

async function promote(document, version, here) {
  const tag = await tagOf(here);
  const said = h("input", { type: "text", id: "why", maxlength: 500, autocomplete: "off" });
  const reason = version.comparison?.reason;
  const why = await ask({
    title: `Promote version ${version.version} of ${document.name}?`,
    text: `New jobs are predicted by version ${version.version} in place of ${document.aliases.production ?? "none"}; accepted ones keep theirs.${reason ? ` Its gate said: ${reason}` : ""}`,
    content: h("div", { class: "field" }, h("label", { for: "why" }, "Why (it stands in the history)"), said), read: () => ({ text: said.value }), confirm: "Promote",
  });
  if (!why) return;
  await call(`${here}/aliases/production`, { method: "PUT", json: { version: version.version, ...(why.text ? { why: why.text } : {}) }, headers: tag ? { "If-Match": tag } : {} });
  toast(`Version ${version.version} is in production.`);
}

async function rollBack(document, here, again) {
  const tag = await tagOf(here);
  const said = h("input", { type: "text", id: "why", maxlength: 500, autocomplete: "off" });
  const why = await ask({
    title: `Roll ${document.name} back?`, text: "Production goes back to the version that it pointed to before. New jobs use it at once; accepted ones keep theirs.",
    content: h("div", { class: "field" }, h("label", { for: "why" }, "Why (it stands in the history)"), said), read: () => ({ text: said.value }), confirm: "Roll back", danger: true,
  });
  if (!why) return;
  const { body } = await call(`${here}/rollback`, { method: "POST", json: why.text ? { why: why.text } : {}, headers: { "If-Match": tag } });
  toast(`Version ${body.version} is in production.`);
  await again();
}

function metrics(document, kept) {
  const names = metricNames(document.versions);
  if (names.length === 0) return h("p", { class: "muted" }, "No version has metrics. Those that are trained here have.");
  if (!names.includes(kept.chosen)) kept.chosen = names[0];
  const chart = h("div", {});
  const control = select(names.map((name) => [name, name]), kept.chosen, { onchange: () => draw() });
  const draw = () => {
    kept.chosen = control.value;
    const points = [...document.versions].reverse().filter((version) => typeof version.metrics[control.value] === "number")
      .map((version) => ({ version: version.version, value: version.metrics[control.value], mark: version.version === document.aliases.production ? "good" : null }));
    fill(chart, versionChart(`${control.value} of versions of ${document.name}`, points));
  };
  draw();
  return [field("Metric", control), chart, h("p", { class: "muted" }, "Each on the rows that its own training held out, so they compare roughly; the gate compares on the same rows.")];
}

function history(alias) {
  if (alias.history.length === 0) return h("p", { class: "muted" }, "It was never moved.");
  return h("ol", { class: "timeline" }, alias.history.slice(0, SHOWN).map((move) => h("li", { class: "past" },
    h("b", {}, `${move.from ?? "none"} → ${move.to ?? "none"}`), " ", when(move.at), move.job_id ? [" by ", h("a", { href: `#/jobs/${move.job_id}` }, "a job")] : move.who && h("span", { class: "muted" }, ` by ${move.who}`), move.why && h("p", {}, move.why))));
}

function residents(loaded) {
  if (!loaded?.length) return h("p", { class: "muted" }, "In no process at the moment; the first job has it loaded.");
  return h("ul", { class: "plain" }, loaded.map((one) => h("li", {}, h("code", {}, one.worker), ` (${one.queue}): ${one.versions.length ? `versions ${one.versions.join(", ")}` : "none"}`,
    Object.entries(one.warnings).map(([version, texts]) => h("p", { class: "muted" }, `version ${version}: ${texts.join(" ")}`)),
    Object.entries(one.failed).map(([version, text]) => h("p", { class: "bad-text" }, `version ${version}: ${text}`)))));
}
