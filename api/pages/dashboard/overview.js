// What goes on: queues, pace, workers, and what failed of late.
import { timeChart } from "/dashboard/charts.js";
import { empty, fill, h, redrawing, section, table } from "/dashboard/dom.js";
import { KINDS, clock, duration, shortId, when, whole } from "/dashboard/format.js";
import { poll } from "/dashboard/poll.js";
import { session } from "/dashboard/session.js";

const QUEUES = { online: "Rows", batch: "Files", train: "Trainings", webhooks: "Webhooks" };
const SHOWN = 6;
const FIRST = "curl -s http://HOST/predict -H 'Content-Type: application/json' -d '{\"x1\": 0.06, \"x2\": 0.02, \"x3\": 0.02}'";

export async function overview({ main, signal, title }) {
  title("Overview");
  const why = session.whyNot("see what goes on", "jobs:read");
  if (why) {
    fill(main, h("h1", {}, "Overview"), h("p", { class: "notice" }, why));
    return;
  }
  const jobs = timeChart("Jobs in 10 s", { format: whole, told: (slot) => `${clock(slot.at)}: ${whole(slot.jobs)} jobs, ${whole(slot.failed)} of them failed` });
  const rows = timeChart("Rows in 10 s", { format: whole, told: (slot) => `${clock(slot.at)}: ${whole(slot.rows)} rows` });
  const took = timeChart("From accepted to done", { format: duration, told: (slot) => `${clock(slot.at)}: half within ${duration(slot.p50_seconds)}, 95 % within ${duration(slot.p95_seconds)}` });
  const parts = { whose: h("p", { class: "muted" }), queues: h("div", {}), workers: h("div", {}), failures: h("div", {}), hello: h("div", {}) };
  fill(main, h("h1", {}, "Overview"), parts.whose, parts.hello,
    section("Queues", parts.queues),
    section("The last ten minutes", h("div", { class: "charts" }, jobs.element, rows.element, took.element)),
    section("Failures of late", parts.failures),
    section("Workers", parts.workers));

  const redraw = redrawing(parts);
  poll(() => "/overview", (document) => {
    fill(parts.whose, document.owner === null ? (session.who.key_id === null ? "All jobs of this service." : "All owners, since your key is an admin's.") : `Jobs of ${document.owner}.`);
    redraw("queues", document.queues, queues);
    pace(document.slots, { jobs, rows, took });
    redraw("failures", document.failures, (found) => failures(found, document.owner === null && session.who.key_id !== null));
    redraw("workers", document.workers.map((worker) => (worker.alive ? { ...worker, heard_at: null } : worker)), workers);
    const quiet = document.slots.every((slot) => slot.jobs === 0) && document.failures.length === 0;
    fill(parts.hello, quiet && empty("Nothing ended within the last ten minutes. Send a row from here, or from a shell:", FIRST.replace("HOST", location.host), h("p", {}, h("a", { class: "button primary", href: "#/new" }, "New job"))));
  }, signal);
}

function queues(found) {
  return h("ul", { class: "tiles" }, found.map((queue) => h("li", { class: "tile" },
    h("h3", {}, QUEUES[queue.name] ?? queue.name),
    h("p", { class: "big" }, h("span", { class: "number" }, whole(queue.waiting)), " waiting"),
    h("p", { class: "muted" }, queue.name === "webhooks" ? "to be delivered" : `${whole(queue.running)} running${queue.oldest_wait_seconds === null ? "" : ` · the oldest waits for ${duration(queue.oldest_wait_seconds)}`}`),
    queue.scale && scale(queue.scale))));
}

function scale({ processes, wanted_processes: wanted }) {
  const there = `${whole(processes)} worker ${processes === 1 ? "process" : "processes"}`;
  return wanted > processes
    ? h("p", {}, h("span", { class: "mark bad" }, there, ", ", whole(wanted), " wanted"))
    : h("p", { class: "muted" }, there);
}

function pace(slots, charts) {
  const last = slots.at(-2) ?? slots.at(-1);
  const sum = (name) => slots.reduce((total, slot) => total + slot[name], 0);
  const failed = sum("failed");
  charts.jobs.update(slots, [
    { kind: "bars", tone: "tone-1", values: slots.map((slot) => slot.jobs) },
    { kind: "bars", tone: "tone-bad", values: slots.map((slot) => slot.failed) },
  ], h("span", {}, h("b", {}, whole(last.jobs)), " in the last ten seconds"), `${whole(sum("jobs"))} in ten minutes, ${whole(failed)} of them failed`);
  charts.rows.update(slots, [{ kind: "bars", tone: "tone-2", values: slots.map((slot) => slot.rows) }],
    h("span", {}, h("b", {}, whole(last.rows)), " in the last ten seconds"), `${whole(sum("rows"))} in ten minutes`);
  const measured = slots.filter((slot) => slot.p50_seconds !== null).at(-1);
  charts.took.update(slots, [
    { kind: "line", tone: "tone-3", values: slots.map((slot) => slot.p95_seconds) },
    { kind: "line", tone: "tone-1", values: slots.map((slot) => slot.p50_seconds) },
  ], measured ? h("span", {}, h("b", { class: "key-1" }, duration(measured.p50_seconds)), " half, ", h("b", { class: "key-3" }, duration(measured.p95_seconds)), " 95 %") : "–",
  measured ? `measured last at ${clock(measured.at)}; to within 20 %` : "nothing ended");
}

function failures(found, withOwner) {
  if (found.length === 0) return h("p", { class: "muted" }, "None is known.");
  const columns = [["Job", ""], ["Model", ""], ["Why", "wide"], ["When", ""]];
  if (withOwner) columns.splice(1, 0, ["Owner", ""]);
  const failed = h("p", {}, h("a", { href: "#/jobs?status=failed" }, "All failed jobs"));
  return [table("Failures of late", columns, found.slice(0, SHOWN).map((entry) => {
    const own = entry.owner === session.who.owner;
    const name = `${KINDS[entry.kind] ?? entry.kind} …${shortId(entry.job_id)}`;
    const cells = [
      own ? h("a", { href: `#/jobs/${entry.job_id}`, "data-key": entry.job_id }, name) : name,
      entry.model,
      entry.failure ? [h("code", {}, entry.failure.code), h("span", { class: "clamp" }, entry.failure.message)] : "–",
      when(entry.finished_at),
    ];
    if (withOwner) cells.splice(1, 0, entry.owner);
    return cells;
  })), failed];
}

function workers(found) {
  if (found.length === 0) return h("p", { class: "notice" }, "No worker is known: jobs wait until one is started.");
  return table("Workers", [["Process", ""], ["Does", ""], ["Version", ""], ["Heard", ""], ["Works on", "wide"]], found.map((worker) => [
    h("code", {}, worker.name),
    worker.queues.join(", "),
    worker.version ?? "–",
    worker.alive ? h("span", { class: "mark good" }, "just now") : h("span", { class: "mark bad" }, "silent, last ", when(worker.heard_at)),
    worker.work.length ? h("ul", { class: "plain" }, worker.work.map((work) => h("li", {}, workText(work)))) : h("span", { class: "muted" }, "nothing"),
  ]));
}

function workText(work) {
  const what = work.model ? `${whole(work.jobs)} ${work.jobs === 1 ? "job" : "jobs"} of ${work.model}` : { plan: "reading a file", chunk: "a part of a file or training", final: "writing a result" }[work.kind] ?? work.kind;
  return [work.job_id ? h("a", { href: `#/jobs/${work.job_id}` }, what) : what, ", ", when(work.since)];
}
