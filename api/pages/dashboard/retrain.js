// A training over a file.
import { field, fill, h, select } from "/dashboard/dom.js";
import { dropZone } from "/dashboard/drop.js";
import { headerOf, separator } from "/dashboard/file_form.js";
import { action, faults } from "/dashboard/messages.js";
import { identity, sendFile, submissions } from "/dashboard/sending.js";
import { session } from "/dashboard/session.js";

/** The form to retrain a model. */
export function retrain(model, here, signal) {
  const why = session.whyNotChange("retrain", model, "train");
  if (why) return h("p", { class: "why" }, why);
  const target = h("input", { type: "text", autocomplete: "off", spellcheck: "false", list: "target-names" });
  const names = h("datalist", { id: "target-names" });
  const promote = select([["auto", "goes into production"], ["manual", "becomes the challenger, and waits for me"], ["never", "is kept only"]], "auto");
  const combine = select([["replace", "this file alone"], ["append", "this file and the rows from before"]], "replace");
  const separated = separator();
  const submission = submissions();
  const rest = h("div", { hidden: true });
  const problems = h("div", { role: "status" });
  const sending = h("div", {});
  let file = null;
  let guess = "";
  const submit = async () => {
    fill(problems);
    try {
      const query = new URLSearchParams({ target: target.value.trim(), promote: promote.value, combine: combine.value });
      if (separated.value() !== ",") query.set("delimiter", separated.value());
      const path = `${here}/retrain?${query}`;
      const { body: job } = await submission([path, identity(file)], (key) => sendFile(path, file, sending, signal, key));
      location.hash = `#/jobs/${job.id}`;
    } catch (problem) {
      if (!problem.errors) throw problem;
      fill(problems, faults(problem));
    }
  };
  const look = async () => {
    const [mine, delimiter] = [file, separated.value()];
    // A file that a browser cannot look into has no names to offer, and may be sent all the same.
    const columns = await headerOf(mine, delimiter).catch(() => []);
    if (mine !== file || delimiter !== separated.value()) return;
    fill(names, columns.map((name) => h("option", { value: name })));
    const taken = new Set(model.versions[0].signature.features.map((feature) => feature.name));
    const left = columns.filter((name) => !taken.has(name));
    // The last column that the model does not take is where tables usually have what is to be learnt.
    if (left.length && (!target.value || target.value === guess)) target.value = guess = left.at(-1);
  };
  separated.onChange(look);
  fill(rest, h("div", { class: "filters" }, field("Column to learn", target), separated.element, field("Train on", combine), field("A version that passes its gate", promote)),
    names, sending, problems, h("div", { class: "actions" }, action("Train", submit, { kind: "primary" })));
  return h("div", {}, h("p", { class: "muted" }, "Fits the pipeline of the version in production anew, and compares both on rows that neither has seen."),
    dropZone("Drop labelled rows here, or choose a file", "The columns of the model and the one to learn.", (given) => {
      file = given;
      separated.suit(file);
      rest.hidden = false;
      look();
    }), rest);
}
