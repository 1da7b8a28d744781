// The first rows of a result, and how its predictions are spread.
import { check, lines, send } from "/dashboard/api.js";
import { barChart, histogram } from "/dashboard/charts.js";
import { isClosed, parseCsv } from "/dashboard/csv.js";
import { fill, h, table } from "/dashboard/dom.js";
import { fine, whole } from "/dashboard/format.js";

const SHOWN = 10;
const MOST_ROWS = 20_000;
const MOST_BYTES = 8 * 2 ** 20;

/** Show what there is of the result of a job that is done. */
export async function preview(job, element, signal) {
  if (job.result.predictions) {
    show(element, job.result.predictions.map((value) => ({ prediction: value })), null);
    return;
  }
  if (job.kind === "predict") {
    if (job.result.bytes > MOST_BYTES) {
      fill(element, h("p", { class: "muted" }, "The result is too large to be shown here."));
      return;
    }
    const response = await send(job.result.href, { signal });
    await check(response);
    const { predictions } = await response.json();
    show(element, predictions.map((value) => ({ prediction: value })), null);
    return;
  }
  const gzip = job.result.media_type === "application/gzip";
  const format = job.options?.output_format ?? job.input?.format;
  if (format === "parquet" || job.result.media_type === "application/zstd") {
    fill(element, h("p", { class: "muted" }, "This format cannot be read by a browser; download it to look into it."));
    return;
  }
  const cut = {};
  const found = await (format === "ndjson" ? readNdjson : readCsv)(job, lines(job.result.href, { most: MOST_BYTES, signal, gzip, cut }));
  show(element, found, found.length < job.result.rows ? `Of the first ${whole(found.length)} of ${whole(job.result.rows)} rows.` : null);
}

async function readNdjson(job, source) {
  const found = [];
  for await (const line of source) {
    if (line) found.push(JSON.parse(line));
    if (found.length >= MOST_ROWS) break;
  }
  return found;
}

async function readCsv(job, source) {
  // A result is written in the dialect of its input, where that is CSV too.
  const delimiter = job.options.delimiter ?? ",";
  const quote = job.options.quote ?? '"';
  const found = [];
  let names = null;
  let rest = "";
  for await (const line of source) {
    rest = rest ? `${rest}\n${line}` : line;
    if (!isClosed(rest, quote)) continue;
    for (const record of parseCsv(rest, { delimiter, quote })) {
      if (names === null) names = record;
      else found.push(Object.fromEntries(names.map((name, index) => [name, read(name, record[index])])));
    }
    rest = "";
    if (found.length >= MOST_ROWS) break;
  }
  return found;
}

/** A field of a result: predictions are numbers where they look like some. */
function read(name, text) {
  if (!isPredicted(name) || text === "" || text === undefined) return text ?? null;
  const number = Number(text);
  return Number.isFinite(number) ? number : text;
}

function isPredicted(name) {
  return /^(prediction|probability|score|item|decision|transformed)(_|$)/.test(name);
}

function show(element, rows, note) {
  if (rows.length === 0) {
    fill(element, h("p", { class: "muted" }, "The result has no rows."));
    return;
  }
  // Several outputs come as columns of a file, or as objects and arrays.
  const flat = rows.map((row) => "prediction" in row && row.prediction !== null && typeof row.prediction === "object" ? { ...row, ...spread(row.prediction) } : row);
  for (const row of flat) if (typeof row.prediction === "object" && row.prediction !== null) delete row.prediction;
  const names = Object.keys(flat[0]);
  const predicted = names.filter(isPredicted);
  const charted = predicted.find((name) => name === "prediction") ?? predicted[0];
  const values = charted ? flat.map((row) => row[charted]).filter((value) => value !== null && value !== "" && value !== undefined) : [];
  fill(element,
    values.length > 1 && [h("h3", {}, `How ${charted} is spread`), note && h("p", { class: "muted" }, note), spreadOf(charted, values)],
    h("h3", {}, rows.length > SHOWN ? `The first ${SHOWN} rows` : "All rows"),
    table("Rows of the result", [["Row", "number"], ...names.map((name) => [name, typeof flat[0][name] === "number" ? "number" : ""])],
      flat.slice(0, SHOWN).map((row, index) => [whole(index + 1), ...names.map((name) => cell(row[name]))])));
}

function spreadOf(name, values) {
  const bars = histogram(values);
  if (bars.length === 1) return h("p", {}, `It is ${bars[0].name} in all ${whole(values.length)} rows.`);
  return barChart(`Histogram of ${name}`, bars);
}

function spread(value) {
  return Object.fromEntries(Array.isArray(value)
    ? value.flatMap((part, index) => part !== null && typeof part === "object"
      ? Object.entries(part).map(([name, inner]) => [`${name}_${index + 1}`, inner]) : [[`prediction_${index + 1}`, part]])
    : Object.entries(value).map(([name, inner]) => [`prediction_${name}`, inner]));
}

function cell(value) {
  if (value === null || value === undefined || value === "") return h("span", { class: "muted" }, "none");
  return typeof value === "object" ? JSON.stringify(value) : fine(value);
}
