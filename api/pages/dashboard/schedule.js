// When a model is trained by itself.
import { call } from "/dashboard/api.js";
import { formatOf } from "/dashboard/csv.js";
import { field, fill, h } from "/dashboard/dom.js";
import { dropZone } from "/dashboard/drop.js";
import { separator } from "/dashboard/file_form.js";
import { badge, when } from "/dashboard/format.js";
import { action, ask, faults, tell, toast } from "/dashboard/messages.js";
import { sendFile } from "/dashboard/sending.js";
import { session } from "/dashboard/session.js";

// What a schedule says of itself, beside what was asked for.
const TOLD = ["model", "revision", "next_run_at", "last_run", "links"];

/** The schedule of a model, and the form to keep one. */
export function schedule(model, here, signal) {
  const element = h("div", {}, h("p", { class: "muted" }, "Loading"));
  const why = session.whyNotChange("change the schedule", model, "train");

  const load = async () => {
    const { body: now } = await call(here, { signal });
    const kept = now.scheduled ? await call(`${here}/schedule`, { signal }) : null;
    fill(element, kept ? shown(kept.body, why, () => remove(kept)) : h("p", { class: "muted" }, "None: it is trained when somebody asks."), why && !kept && h("p", { class: "why" }, why), !why && form(kept));
  };
  const remove = async (kept) => {
    const sure = await ask({ title: "Remove the schedule?", text: "No more trainings start by themselves. Those that run go on.", confirm: "Remove it", danger: true });
    if (!sure) return;
    await call(`${here}/schedule`, { method: "DELETE", headers: { "If-Match": kept.headers.get("ETag") } });
    toast("The schedule is removed.");
    await load();
  };
  const form = (kept) => {
    const before = kept?.body;
    const cron = h("input", { type: "text", value: before ? before.cron ?? "" : "0 3 * * 1", autocomplete: "off", spellcheck: "false" });
    const zone = h("input", { type: "text", value: before?.time_zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone, autocomplete: "off" });
    const target = h("input", { type: "text", value: before?.target ?? "", autocomplete: "off", spellcheck: "false" });
    const uri = h("input", { type: "text", value: before?.input?.uri ?? "", autocomplete: "off", spellcheck: "false" });
    const problems = h("div", { role: "status" });
    const sending = h("div", {});
    const separated = separator(before?.delimiter);
    let file = null;
    const save = async () => {
      fill(problems);
      try {
        const input = file ? { file_id: (await sendFile(`/files?name=${encodeURIComponent(file.name)}`, file, sending, signal)).body.id } : inputOf(before?.input, uri.value.trim());
        const json = { ...requested(before), cron: cron.value.trim() || null, time_zone: zone.value.trim(), target: target.value.trim(), input };
        if (file) json.delimiter = separated.value();
        await call(`${here}/schedule`, { method: "PUT", json, headers: kept ? { "If-Match": kept.headers.get("ETag") } : {} });
        toast("The schedule is kept.");
        await load();
      } catch (problem) {
        if (!problem.errors) throw problem;
        fill(problems, faults(problem));
      }
    };
    return h("details", {}, h("summary", {}, kept ? "Change it" : "Make one"),
      h("div", { class: "filters" }, field("When (cron)", cron, `minute, hour, day of month, month, day of week${before?.when_drifted ? "; empty: only when the data drifted" : ""}`), field("Time zone", zone), field("Column to learn", target), field("File at", uri, "An address that the operator allowed, such as s3://bucket/rows.csv; or drop a file.")),
      before && !before.input && h("p", { class: "notice" }, "Its file, webhook and metadata are shown to its owner alone: name a file. The schedule becomes yours, without that webhook and metadata."),
      dropZone("Drop a file to train on each time", "It is kept here for as long as files are.", (given) => {
        file = given;
        separated.suit(file);
      }), h("div", { class: "filters" }, separated.element), sending, problems, h("div", { class: "actions" }, action("Keep the schedule", save, { kind: "primary" })));
  };
  load().catch((problem) => {
    if (!signal.aborted) fill(element, h("p", { class: "bad-text" }, problem.message));
    tell(problem);
  });
  return element;
}

/** What was asked for when a schedule was kept, also what the form does not show. */
function requested(kept) {
  return Object.fromEntries(Object.entries(kept ?? {}).filter(([name]) => !TOLD.includes(name)));
}

/** The file to train on: the one from before unless another address is given, whose format may be another too. */
function inputOf(before, uri) {
  if (before && uri === (before.uri ?? "")) return before;
  if (!uri) return {};
  return before?.uri && formatOf(before.uri).format === formatOf(uri).format ? { ...before, uri } : { uri };
}

function shown(kept, why, onRemove) {
  return [
    h("dl", { class: "pairs" },
      h("div", {}, h("dt", {}, "When"), h("dd", {}, kept.cron ? [h("code", {}, kept.cron), ` (${kept.time_zone})`, kept.when_drifted && ", and when the data drifted"] : "when the data drifted", !kept.enabled && " – switched off")),
      h("div", {}, h("dt", {}, "Next"), h("dd", {}, when(kept.next_run_at))),
      h("div", {}, h("dt", {}, "Learns"), h("dd", {}, h("code", {}, kept.target))),
      kept.last_run && h("div", {}, h("dt", {}, "Last"), h("dd", {}, when(kept.last_run.due_at), " ", kept.last_run.job_id ? h("a", { href: `#/jobs/${kept.last_run.job_id}` }, "its job") : [badge("failed"), " ", kept.last_run.message]))),
    h("div", { class: "actions" }, action("Remove the schedule", onRemove, { why, kind: "danger" })),
  ];
}
