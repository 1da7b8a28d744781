// One job: how far it is, what came of it, and what can be done about it.
import { call, download } from "/dashboard/api.js";
import { fill, h, redrawing, section } from "/dashboard/dom.js";
import { follow } from "/dashboard/events.js";
import { KINDS, badge, between, duration, exact, fine, percent, size, when, whole } from "/dashboard/format.js";
import { action, ask, banner, tell, toast } from "/dashboard/messages.js";
import { preview } from "/dashboard/preview.js";
import { reasons } from "/dashboard/reasons.js";
import { submissions } from "/dashboard/sending.js";
import { session } from "/dashboard/session.js";

const USUAL = { output_compression: "none", keep_failed_rows: false, delimiter: ",", quote: '"', header: true, encoding: "utf-8" };
const PHASES = {
  validating: "looking at the file", scoring: "predicting", finalising: "writing the result", loading: "reading the rows",
  fitting: "fitting", evaluating: "comparing with the champion", gating: "deciding", registering: "registering the version",
};

export async function job({ main, signal, name, title }) {
  const why = session.whyNot("read jobs", "jobs:read");
  title("Job");
  if (why) {
    fill(main, h("h1", {}, "Job"), h("p", { class: "notice" }, why));
    return;
  }
  const { body: first } = await call(`/jobs/${encodeURIComponent(name)}`, { signal });
  const parts = {};
  for (const part of ["head", "actions", "failure", "progress", "times", "counts", "details"]) parts[part] = h("div", {});
  const said = h("p", { class: "hidden", "aria-live": "polite", role: "status" });
  const result = h("div", {});
  const errors = h("div", {});
  fill(main, parts.head, parts.actions, said, parts.failure, parts.progress, parts.counts, errors, result, parts.times, parts.details);
  title(`Job …${first.id.slice(-12)}`);

  let ended = false;
  const redraw = redrawing(parts);
  const submission = submissions();
  const show = (seen) => {
    redraw("head", [seen.kind, seen.model, seen.status, seen.retry_of], () => head(seen));
    // Counts and result are for what can be done at the end; until then they change with every event.
    redraw("actions", [seen.done, seen.cancel_requested, seen.links, seen.done && [seen.counts, seen.result]], () => actions(seen, submission));
    redraw("failure", [seen.failure, seen.counts.failed === 0], () => failure(seen));
    redraw("progress", [seen.done, seen.status, seen.phase, seen.queue_position, seen.counts.total, seen.progress], () => progress(seen));
    redraw("times", [seen.created_at, seen.started_at, seen.finished_at, seen.expires_at], () => section("Timeline", timeline(seen)));
    redraw("counts", seen.counts, () => section("Rows", counts(seen)));
    redraw("details", [seen.model, seen.method, seen.top_k, seen.priority, seen.attempt, seen.input, seen.result, seen.options, seen.training, seen.webhook, seen.metadata, seen.warnings], () => section("Details", details(seen)));
    announce(said, seen);
    if (seen.done && !ended) {
      ended = true;
      outcome(seen, { result, errors, signal });
    }
  };
  show(first);
  if (!first.done) await follow(first.id, show, (problem) => banner(problem), signal);
}

/** Say aloud what changed, without every row. */
function announce(element, job) {
  const tenth = Math.floor(job.progress.fraction * 10) * 10;
  const text = job.done ? `The job ${job.status.replaceAll("_", " ")}: ${whole(job.counts.succeeded)} rows succeeded, ${whole(job.counts.failed)} failed.`
    : `The job is ${job.status}, ${tenth} % done.`;
  if (element.textContent !== text) element.textContent = text;
}

function head(job) {
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/jobs" }, "Jobs")),
    h("div", { class: "title-row" },
      h("h1", {}, `${capital(KINDS[job.kind] ?? job.kind)} ${job.kind === "train" || job.kind === "register" ? "of" : "with"} ${job.model.name}${job.model.version ? `@${job.model.version}` : ""}`), badge(job.status)),
    h("p", { class: "muted" }, h("code", {}, job.id), job.retry_of && [" · a retry of ", h("a", { href: `#/jobs/${job.retry_of}` }, `…${job.retry_of.slice(-12)}`)]),
  ];
}

function actions(job, submission) {
  const mayEnd = job.kind === "train" ? ["train", "jobs:write"] : ["jobs:write", "train"];
  const mayRetry = job.kind === "train" ? ["train"] : ["jobs:write"];
  return h("div", { class: "actions" },
    !job.done && action(job.cancel_requested ? "Cancelling" : "Cancel", () => cancel(job), { why: job.cancel_requested ? "It stops between two predict calls." : session.whyNot("cancel jobs", ...mayEnd), kind: "danger", key: "cancel" }),
    job.links.result && job.kind !== "train" && job.kind !== "register" && action("Download the result", () => download(job.links.result, fileName(job)), { kind: "primary", key: "download" }),
    job.done && job.counts.failed > 0 && job.links.errors && action("Download the errors", () => download(job.links.errors, `errors-${job.id}.ndjson`), { key: "errors" }),
    job.links.manifest && action("Download the manifest", () => download(job.links.manifest, `manifest-${job.id}.json`), { key: "manifest" }),
    job.links.retry && action("Retry", () => retry(job, submission), { why: session.whyNot("retry this", ...mayRetry), key: "retry" }),
    job.done && action("Delete", () => remove(job), { why: session.whyNot("delete jobs", ...mayEnd), kind: "quiet", key: "delete" }));
}

function fileName(job) {
  if (job.kind === "predict") return `result-${job.id}.json`;
  return `${job.id}-${job.result?.name ?? "result"}`;
}

async function cancel(job) {
  const sure = await ask({ title: "Cancel this job?", text: job.kind === "batch" ? "What is done is kept as its result. The rest is not tried." : "A cancelled job has no result, and cannot be taken up again.", confirm: "Cancel the job", danger: true });
  if (!sure) return;
  const { body } = await call(`/jobs/${job.id}/cancel`, { method: "POST" });
  toast(body.done ? "The job is cancelled." : "The job stops in a moment.");
}

async function retry(job, submission) {
  const staged = job.kind === "train";
  const choices = [["failed", "the rows without a prediction"], ["skipped", "the rows that were never tried"], ["all", "all rows"]];
  const control = h("select", { id: "retry-only" }, choices.map(([value, text]) => h("option", { value }, text)));
  if (job.counts.failed + job.counts.skipped === 0) control.value = "all";
  const only = await ask({
    title: "Run it again?", text: `It becomes a new job, with the same version ${job.model.name}@${job.model.version ?? "–"}.`, confirm: "Retry",
    content: staged ? null : h("div", { class: "field" }, h("label", { for: "retry-only" }, "Which rows"), control), read: () => (staged ? "all" : control.value),
  });
  if (!only) return;
  const { body } = await submission(only, (key) => call(`/jobs/${job.id}/retry`, { method: "POST", json: { only }, headers: { "Idempotency-Key": key } }));
  location.hash = `#/jobs/${body.id}`;
}

async function remove(job) {
  const sure = await ask({ title: "Delete this job?", text: "Its rows, result and errors are removed for good.", confirm: "Delete the job", danger: true });
  if (!sure) return;
  await call(`/jobs/${job.id}`, { method: "DELETE" });
  toast("The job is deleted.");
  location.hash = "#/jobs";
}

function failure(job) {
  if (!job.failure) return null;
  return h("div", { class: "faults" }, h("p", {}, h("code", {}, job.failure.code), " ", h("strong", {}, job.failure.message)),
    job.counts.failed === 0 && job.failure.errors.length > 0 && h("ul", {}, job.failure.errors.map((fault) => h("li", {}, fault.column && h("span", { class: "where" }, `column ${fault.column}: `), fault.message))));
}

function progress(job) {
  if (job.done) return null;
  const { fraction, rows_per_second: pace, eta_seconds: left, fits } = job.progress;
  const known = job.status === "running" && job.counts.total !== null;
  const words = job.status === "queued" ? `Waits${job.queue_position ? `, place ${whole(job.queue_position)} in its line` : ""}`
    : `${capital(PHASES[job.phase] ?? job.phase ?? "running")}${fits ? `, ${whole(fits.done)} of ${whole(fits.total)} fits` : ""}`;
  return h("section", { class: "panel", "aria-label": "Progress" },
    h("progress", { max: 1, value: known ? fraction : null, "aria-label": "Progress of the job" }),
    h("p", { class: "spread" }, h("span", {}, words), known && h("b", { class: "number", id: "fraction" }, percent(fraction)),
      h("span", { class: "muted number" }, [pace !== null && `${whole(pace)} rows a second`, left !== null && left > 0 && `about ${duration(left)} left`].filter(Boolean).join(" · "))));
}

function timeline(job) {
  const steps = [
    ["Submitted", job.created_at, null],
    ["Begun", job.started_at, job.started_at && `after ${duration(between(job.created_at, job.started_at))} in line`],
    ["Done", job.finished_at, job.finished_at && job.started_at && `after ${duration(between(job.started_at, job.finished_at))} of work`],
    ["Removal", job.expires_at, job.expires_at && "by itself, with its result"],
  ];
  return h("ol", { class: "timeline" }, steps.filter(([, at], index) => at || index < 3).map(([name, at, note]) =>
    h("li", { class: at ? (Date.parse(at) <= Date.now() ? "past" : "") : "" }, h("b", {}, name), " ", at ? [when(at), h("span", { class: "muted" }, ` ${exact(at)}${note ? `, ${note}` : ""}`)] : h("span", { class: "muted" }, "not yet"))));
}

const PARTS = [["succeeded", "Succeeded"], ["failed", "Failed"], ["skipped", "Skipped"], ["pending", "Pending"]];

function counts(job) {
  const total = job.counts.total;
  if (total === null) return h("p", { class: "muted" }, "Not counted yet.");
  // A row of meters would be read out four times; the numbers below say it once.
  return [h("p", { class: "muted" }, `${whole(total)} in all`),
    h("dl", { class: "counts" }, PARTS.map(([name, text]) => h("div", { class: job.counts[name] ? name : "none" },
      h("dt", {}, text), h("dd", { class: "number" }, whole(job.counts[name])), h("dd", {}, h("meter", { min: 0, max: total || 1, value: job.counts[name] ?? 0, "aria-label": `${text} rows` })))))];
}

function details(job) {
  const pairs = [
    ["Model", job.model.requested], ["Artifact", job.model.sha256 && h("code", {}, job.model.sha256.slice(0, 16))], ["Method", job.method], ["Top k", job.top_k],
    ["Priority", job.priority], ["Attempt", job.attempt], ["File", job.input && [job.input.name || job.input.uri || job.input.file_id || "sent with the job", `, ${size(job.input.bytes)}`]],
    ["Result", job.result?.bytes && `${size(job.result.bytes)}, ${job.result.media_type}`],
    ["Options", job.options && chosen(job.options)], ["Training", job.training && chosen(job.training)],
    ["Webhook", job.webhook?.url], ["Metadata", Object.keys(job.metadata).length > 0 && h("code", {}, JSON.stringify(job.metadata))],
  ];
  return [
    job.warnings.length > 0 && h("ul", { class: "notice" }, job.warnings.map((text) => h("li", {}, text))),
    h("dl", { class: "pairs" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("pre", { tabindex: "0" }, h("code", {}, `curl -s ${location.origin}/jobs/${job.id}${session.key ? ' -H "Authorization: Bearer $FORETELL_KEY"' : ""}`)),
  ];
}

/** Options that are not what they are by default. */
function chosen(options) {
  const given = Object.entries(options).filter(([name, value]) => value !== null && value !== USUAL[name] && !(Array.isArray(value) && value.length === 0));
  if (given.length === 0) return null;
  return h("ul", { class: "plain" }, given.map(([name, value]) => h("li", {}, h("code", {}, `${name}: ${typeof value === "object" ? JSON.stringify(value, (_, inner) => inner ?? undefined) : value}`))));
}

/** What came of a job that is done: its errors by reason, its result. */
function outcome(job, { result, errors, signal }) {
  if (job.counts.failed > 0 && job.links.errors) {
    const inside = h("div", {}, h("p", { class: "muted" }, "Reading"));
    fill(errors, section("Why rows failed", inside));
    reasons(job, inside, signal).catch((problem) => wrong(inside, problem, signal));
  }
  if (job.kind === "train" || job.kind === "register") {
    if (job.result) fill(result, section("The version that it made", made(job.result)));
  } else if (job.result && job.links.result) {
    const inside = h("div", {}, h("p", { class: "muted" }, "Reading"));
    fill(result, section("Result", inside));
    preview(job, inside, signal).catch((problem) => wrong(inside, problem, signal));
  }
}

function wrong(element, problem, signal) {
  if (signal.aborted) return;
  fill(element, h("p", { class: "bad-text" }, problem.message));
  tell(problem);
}

function made(result) {
  return [
    h("p", {}, h("a", { href: `#/models/${encodeURIComponent(result.model)}` }, `${result.model}@${result.version}`),
      result.promoted ? " is in production." : result.alias ? ` is the ${result.alias}.` : " is kept; no alias points to it."),
    result.gate?.reason && h("p", {}, result.gate.reason),
    result.metrics && h("dl", { class: "pairs" }, Object.entries(result.metrics).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "number" }, fine(value))))),
  ];
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
