// How a challenger did beside the champion, on the same held-out rows.
import { intervalChart } from "/dashboard/charts.js";
import { h } from "/dashboard/dom.js";
import { fine, percent, whole } from "/dashboard/format.js";

/** The newest comparison of a model's versions. */
export function comparison(document) {
  const challenger = document.versions.find((version) => version.comparison?.challenger !== undefined && version.comparison.low !== undefined && version.comparison.low !== null);
  if (!challenger) return h("p", { class: "muted" }, "No two versions were compared yet. A training does that.");
  const { champion_version: champion, metric, champion: before, challenger: now, improvement, low, high, confidence, rows, reason, passed } = challenger.comparison;
  return [
    h("p", {}, h("span", { class: passed ? "mark good" : "mark bad" }, passed ? "passed" : "refused"), ` version ${challenger.version} against version ${champion}`),
    h("dl", { class: "pairs" },
      h("div", {}, h("dt", {}, `Champion ${champion}`), h("dd", { class: "number" }, `${metric} ${fine(before)}`)),
      h("div", {}, h("dt", {}, `Challenger ${challenger.version}`), h("dd", { class: "number" }, `${metric} ${fine(now)}`)),
      h("div", {}, h("dt", {}, "Better by"), h("dd", { class: "number" }, `${fine(improvement)} (${percent(confidence)} interval ${fine(low)} to ${fine(high)}; ${whole(rows)} rows)`))),
    intervalChart(`How much better version ${challenger.version} is`, { low, high, value: improvement, least: "worse", most: "better" }),
    h("p", { class: "muted" }, reason),
  ];
}
