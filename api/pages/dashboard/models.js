// The list of models.
import { empty, fill, h, table } from "/dashboard/dom.js";
import { fine, when, whole } from "/dashboard/format.js";
import { poll } from "/dashboard/poll.js";
import { session } from "/dashboard/session.js";

const FIRST = "curl -s -F artifact=@model.skops -F sample=@rows.csv http://HOST/models/NAME/versions";
const PAUSE = 5000;

export async function models({ main, signal, title }) {
  title("Models");
  const why = session.whyNot("read models", "models:read");
  if (why) {
    fill(main, h("h1", {}, "Models"), h("p", { class: "notice" }, why));
    return;
  }
  const list = h("div", {}, h("p", { class: "muted" }, "Loading"));
  fill(main, h("h1", {}, "Models"), h("div", { class: "panel" }, list));
  let known = null;
  poll(() => "/models", (document) => {
    const text = JSON.stringify(document);
    if (text === known) return;
    known = text;
    fill(list, document.models.length ? rows(document.models) : empty("There are no models yet. Send one, or register it on the server (python -m worker register NAME FILE):", FIRST.replace("HOST", location.host)));
  }, signal, PAUSE);
}

function rows(found) {
  return table("Models", [["Model", ""], ["In production", "number"], ["Versions", "number"], ["Aliases", ""], ["Metrics in production", ""], ["Belongs to", ""], ["Newest version", ""]], found.map((model) => {
    const champion = model.versions.find((version) => version.version === model.aliases.production);
    const others = Object.entries(model.aliases).filter(([alias]) => alias !== "production");
    const metrics = Object.entries(champion?.metrics ?? {}).slice(0, 3);
    return [
      [h("a", { href: `#/models/${encodeURIComponent(model.name)}`, "data-key": model.name }, model.name), champion?.description && h("span", { class: "clamp muted" }, champion.description)],
      model.aliases.production ?? "–",
      whole(model.versions.length),
      others.length ? others.map(([alias, version]) => `${alias} → ${version}`).join(", ") : h("span", { class: "muted" }, "none"),
      metrics.length ? metrics.map(([name, value]) => `${name} ${fine(value)}`).join(", ") : h("span", { class: "muted" }, "none"),
      model.owner ?? h("span", { class: "muted" }, "nobody"),
      when(model.versions[0]?.created_at),
    ];
  }));
}
