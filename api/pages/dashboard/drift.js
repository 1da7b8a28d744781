// How far the rows of late are from the training data, feature by feature.
import { call } from "/dashboard/api.js";
import { sparkline } from "/dashboard/charts.js";
import { fill, h, table } from "/dashboard/dom.js";
import { fine, when, whole } from "/dashboard/format.js";

const WINDOWS = 20;

/** Show the newest windows of the model at `here`. */
export async function drift(here, element, signal) {
  const { body } = await call(`${here}/drift?limit=${WINDOWS}`, { signal });
  const [newest] = body.windows;
  if (!newest) {
    fill(element, h("p", { class: "muted" }, "Nothing is known yet: a job over a file is compared with the training data of its version, if that has a profile."));
    return;
  }
  const drifted = new Set(newest.drifted_features);
  const older = [...body.windows].reverse();
  const features = Object.entries(newest.features).sort((one, other) => other[1] - one[1]);
  fill(element,
    h("p", {}, newest.drifted === null ? "Too few rows to tell. " : newest.drifted ? h("span", { class: "mark bad" }, "drifted ") : h("span", { class: "mark good" }, "as in training "),
      h("a", { href: `#/jobs/${newest.job_id}` }, "the newest file"), `, ${whole(newest.rows)} rows, version ${newest.version}, `, when(newest.at)),
    table("Drift per feature", [["Feature", ""], ["Index (PSI)", "number"], ["State", ""], [older.length === 1 ? "The last file" : `The last ${older.length} files`, ""]], features.map(([name, value]) => [
      h("code", {}, name), fine(value),
      drifted.has(name) ? h("span", { class: "mark bad" }, "drifted") : h("span", { class: "mark good" }, "steady"),
      sparkline(`Index of ${name} in the newest files`, older.map((window_) => window_.features[name] ?? 0), body.threshold),
    ])),
    h("p", { class: "muted" }, `The population stability index; from ${fine(body.threshold)} on, beyond chance, a feature has drifted. The line marks it.`));
}
