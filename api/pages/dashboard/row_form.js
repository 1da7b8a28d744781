// Rows typed into a form that follows the model's signature.
import { call } from "/dashboard/api.js";
import { typed } from "/dashboard/csv.js";
import { fill, h, newId } from "/dashboard/dom.js";
import { duration, whole } from "/dashboard/format.js";
import { action, faults } from "/dashboard/messages.js";
import { methodFields } from "/dashboard/new_job.js";
import { submissions } from "/dashboard/sending.js";

const MOST_ROWS = 50;

/** The form for rows of a model's version. */
export function rowForm(target, signal) {
  const { features, example } = target.manifest.signature;
  const rows = [];
  const list = h("div", { class: "rows" });
  const said = h("div", { role: "status" });
  const options = methodFields(target.manifest);
  const submission = submissions();

  const add = (values = []) => {
    const row = rowOf(features, values, () => {
      rows.splice(rows.indexOf(row), 1);
      row.element.remove();
      number();
    });
    rows.push(row);
    list.append(row.element);
    number();
  };
  const number = () => rows.forEach((row, index) => row.name(index + 1, rows.length > 1));
  const body = () => ({ model: target.requested, instances: rows.map((row) => row.read()), ...options.read() });
  const refuse = (problem) => {
    if (!problem.errors) throw problem;
    // What is a row's is said there.
    fill(said, faults({ message: problem.message, requestId: problem.requestId, errors: problem.errors.filter((fault) => !rows[fault.row - 1]) }));
    for (const row of rows) row.clear();
    for (const fault of problem.errors) rows[fault.row - 1]?.mark(fault);
    list.querySelector("[aria-invalid]")?.focus();
  };
  const check = async () => {
    fill(said);
    try {
      const { body: found } = await call("/jobs?validate_only=true", { method: "POST", json: body(), signal });
      for (const row of rows) row.clear();
      fill(said, h("p", { class: "mark good" }, `${whole(found.rows)} ${found.rows === 1 ? "row is" : "rows are"} as ${found.model.name}@${found.model.version} takes them.`
        + (found.queue_length ? ` ${whole(found.queue_length)} jobs wait before.` : "") + (found.estimated_seconds ? ` It should take about ${duration(found.estimated_seconds)}.` : "")));
    } catch (problem) {
      refuse(problem);
    }
  };
  const submit = async () => {
    fill(said);
    try {
      const json = body();
      const { body: job } = await submission(json, (key) => call("/jobs", { method: "POST", json, headers: { "Idempotency-Key": key }, signal }));
      location.hash = `#/jobs/${job.id}`;
    } catch (problem) {
      refuse(problem);
    }
  };
  // What is clicked when somebody presses Enter in a field.
  const submitting = action("Submit", submit, { kind: "primary" });
  submitting.type = "submit";
  add();
  return h("form", { onsubmit: (event) => event.preventDefault() }, list,
  h("div", { class: "actions" },
    action("Add a row", async () => rows.length < MOST_ROWS && add()),
    example && action("Fill in an example", async () => rows.at(-1).write(example))),
  options.element, said,
  h("div", { class: "actions" }, action("Check", check), submitting));
}

/** One row: a labelled control for each feature. */
function rowOf(features, values, onRemoved) {
  const legend = h("legend", {}, "Row");
  const fault = h("p", { class: "bad-text", id: newId("fault") });
  const remove = h("button", { type: "button", class: "quiet", onclick: onRemoved }, "Remove");
  const controls = features.map((feature, index) => control(feature, values[index]));
  const element = h("fieldset", { class: "row-form" }, legend,
    h("div", { class: features.length === 1 ? "grid one" : "grid" }, features.map((feature, index) => h("div", { class: "field" },
      h("label", { for: controls[index].id }, feature.name, h("span", { class: "muted" }, ` ${feature.type}${feature.nullable ? ", or empty" : ""}`)), controls[index]))), fault, remove);
  return {
    element,
    name(number, removable) {
      legend.textContent = `Row ${number}`;
      remove.hidden = !removable;
    },
    // What is empty is missing, whatever the model says of it; the service tells whether it takes that.
    read: () => Object.fromEntries(features.map((feature, index) => [feature.name, typed(controls[index].value, feature.type)])),
    write: (given) => given.forEach((value, index) => {
      controls[index].value = value === null ? "" : String(value);
    }),
    clear() {
      fault.textContent = "";
      for (const one of controls) {
        one.removeAttribute("aria-invalid");
        one.removeAttribute("aria-describedby");
      }
    },
    mark(found) {
      fault.textContent = [fault.textContent, found.message].filter(Boolean).join(" ");
      const wrong = controls[features.findIndex((feature) => feature.name === found.column)];
      wrong?.setAttribute("aria-invalid", "true");
      wrong?.setAttribute("aria-describedby", fault.id);
    },
  };
}

function control(feature, value = "") {
  const id = newId("value");
  if (feature.type === "boolean") {
    const choices = [["", feature.nullable ? "missing" : "choose"], ["true", "true"], ["false", "false"]];
    const element = h("select", { id }, choices.map(([given, text]) => h("option", { value: given }, text)));
    element.value = String(value);
    return element;
  }
  if (feature.type === "string") return h("input", { id, type: "text", value, autocomplete: "off" });
  return h("input", { id, type: "text", inputmode: feature.type === "integer" ? "numeric" : "decimal", value, autocomplete: "off" });
}
