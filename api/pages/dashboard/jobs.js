// The list of jobs, with filters that stand in the address.
import { call } from "/dashboard/api.js";
import { empty, field, fill, h, select, table } from "/dashboard/dom.js";
import { KINDS, STATUSES, badge, between, duration, percent, shortId, when, whole } from "/dashboard/format.js";
import { action } from "/dashboard/messages.js";
import { poll } from "/dashboard/poll.js";
import { session } from "/dashboard/session.js";

const FIRST = "curl -s http://HOST/jobs -H 'Content-Type: application/json' -d '{\"model\": \"linear\", \"instances\": [[0.06, 0.02, 0.04]]}'";
const PAGE = 50;

export async function jobs({ main, signal, query, title }) {
  title("Jobs");
  const why = session.whyNot("read jobs", "jobs:read");
  if (why) {
    fill(main, h("h1", {}, "Jobs"), h("p", { class: "notice" }, why));
    return;
  }
  const status = select([["", "any status"], ...STATUSES], query.get("status") ?? "");
  const kind = select([["", "any kind"], ...Object.entries(KINDS)], query.get("kind") ?? "");
  const model = h("input", { type: "search", value: query.get("model") ?? "", placeholder: "any model", list: "model-names", autocomplete: "off", spellcheck: "false" });
  const names = h("datalist", { id: "model-names" });
  const list = h("div", { "aria-busy": "true" }, h("p", { class: "muted" }, "Loading"));
  const pages = h("div", { class: "actions" });
  const older = { jobs: [], next: null };
  const state = { first: [], next: null };

  const asked = () => {
    const given = new URLSearchParams({ limit: PAGE });
    for (const [name, control] of [["status", status], ["kind", kind], ["model", model]]) if (control.value.trim()) given.set(name, control.value.trim());
    return given;
  };
  const draw = () => {
    const known = new Set(state.first.map((entry) => entry.id));
    const shown = [...state.first, ...older.jobs.filter((entry) => !known.has(entry.id))];
    const filtered = asked().size > 1;
    list.setAttribute("aria-busy", "false");
    fill(list, shown.length ? rows(shown) : empty(filtered ? "No job is like that." : "There are no jobs yet. Submit one from here, or from a shell:", filtered ? null : FIRST.replace("HOST", location.host), !filtered && h("p", {}, h("a", { class: "button primary", href: "#/new" }, "New job"))));
    const next = older.jobs.length ? older.next : state.next;
    fill(pages, next && action("Show older jobs", async () => {
      const given = asked();
      given.set("cursor", next);
      const { body } = await call(`/jobs?${given}`, { signal });
      older.jobs.push(...body.jobs);
      older.next = body.next;
      draw();
    }));
  };
  const again = poll(() => `/jobs?${asked()}`, (document) => {
    state.first = document.jobs;
    state.next = document.next;
    draw();
  }, signal);
  const filter = () => {
    older.jobs = [];
    const given = asked();
    given.delete("limit");
    history.replaceState(null, "", `#/jobs${given.size ? `?${given}` : ""}`);
    again();
  };
  for (const control of [status, kind, model]) control.addEventListener("change", filter);
  fill(main, h("div", { class: "title-row" }, h("h1", {}, "Jobs"), h("a", { class: "button primary", href: "#/new" }, "New job")),
    h("form", { class: "filters", role: "search", "aria-label": "Filter jobs", onsubmit: (event) => {
      event.preventDefault();
      filter();
    } }, field("Status", status), field("Kind", kind), field("Model", model), names), h("div", { class: "panel" }, list, pages));
  if (session.may("models:read")) call("/models", { signal }).then(({ body }) => fill(names, body.models.map((entry) => h("option", { value: entry.name }))), () => {});
}

function rows(found) {
  return table("Jobs, newest first", [["Job", ""], ["Status", ""], ["Model", ""], ["Rows", "number"], ["Failed", "number"], ["Took", "number"], ["Submitted", ""]], found.map((job) => [
    h("a", { href: `#/jobs/${job.id}`, "data-key": job.id, title: job.id }, `${KINDS[job.kind] ?? job.kind} …${shortId(job.id)}`),
    [badge(job.status), job.status === "running" && job.progress.fraction > 0 && h("span", { class: "muted" }, ` ${percent(job.progress.fraction)}`)],
    `${job.model.name}${job.model.version ? `@${job.model.version}` : ""}`,
    whole(job.counts.total),
    job.counts.failed ? h("span", { class: "bad-text" }, whole(job.counts.failed)) : whole(job.counts.failed),
    duration(between(job.created_at, job.finished_at)),
    when(job.created_at),
  ]));
}
