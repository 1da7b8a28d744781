// A file whose first rows are looked at before it is sent.
import { call } from "/dashboard/api.js";
import { formatOf, isClosed, parseCsv, typed } from "/dashboard/csv.js";
import { field, fill, h, select, table } from "/dashboard/dom.js";
import { dropZone } from "/dashboard/drop.js";
import { whole } from "/dashboard/format.js";
import { action, faults } from "/dashboard/messages.js";
import { methodFields } from "/dashboard/new_job.js";
import { identity, sendFile, submissions } from "/dashboard/sending.js";

const LOOKED_AT = 50;
const SHOWN = 8;
const HEAD_BYTES = 256 * 1024;

/** The form for a file of a model's version. */
export function fileForm(target, signal) {
  const seen = h("div", { role: "status" });
  const rest = h("div", { hidden: true });
  const sending = h("div", {});
  const problems = h("div", {});
  const options = methodFields(target.manifest);
  const key = h("select", {});
  const include = select([["", "predictions alone"], ["all", "all columns of the file"]], "");
  const output = select([["", "as the file"], ["csv", "CSV"], ["ndjson", "NDJSON"], ["parquet", "Parquet"]], "");
  const most = h("input", { type: "number", min: 0, step: 1, inputmode: "numeric" });
  const separated = separator();
  const submission = submissions();
  let file = null;
  let looks = 0;

  const look = async () => {
    looks += 1;
    const mine = looks;
    rest.hidden = true;
    fill(problems);
    fill(seen, h("p", { class: "muted" }, "Looking at the first rows"));
    let found;
    try {
      found = await lookAt(file, target, separated.value(), signal);
    } catch (problem) {
      if (signal.aborted) return;
      found = { element: problem.errors ? faults(problem) : h("p", { class: "faults" }, "The file cannot be read. Choose it again."), columns: [], usable: false };
      if (!problem.errors && !(problem instanceof DOMException)) console.error(problem);
    }
    if (mine !== looks) return;
    fill(seen, found.element);
    fill(key, h("option", { value: "" }, "none"), found.columns.map((name) => h("option", { value: name }, name)));
    rest.hidden = !found.usable;
  };
  const submit = async () => {
    fill(problems);
    const query = new URLSearchParams({ model: target.requested });
    for (const [name, value] of Object.entries({ ...options.read(), key: key.value, include: include.value, output_format: output.value, max_failed_rows: most.value })) if (value !== "") query.set(name, value);
    if (separated.value() !== ",") query.set("delimiter", separated.value());
    try {
      const path = `/jobs?${query}`;
      const { body: job } = await submission([path, identity(file)], (key) => sendFile(path, file, sending, signal, key));
      location.hash = `#/jobs/${job.id}`;
    } catch (problem) {
      if (!problem.errors) throw problem;
      fill(problems, faults(problem));
    }
  };
  separated.onChange(look);
  fill(rest, h("h3", {}, "Options"), h("div", { class: "filters" },
    field("Key column", key, "Repeated in the result and the errors, to tell rows by."), field("The result has", include), field("Format of the result", output),
    field("Stop after failed rows", most, "Empty: bad rows are named and the others go on.")),
  options.element, sending, problems, h("div", { class: "actions" }, action("Submit the file", submit, { kind: "primary" })));
  return h("div", {}, dropZone("Drop a file here, or choose one", "CSV, NDJSON or Parquet, also with gzip or zstd. Nothing is sent before you submit it, but for its first rows.", (given) => {
    file = given;
    separated.suit(file);
    look();
  }), h("div", { class: "filters" }, separated.element), seen, rest);
}

/** What separates the fields of a CSV file, chosen where the file that `suit` was told of is one. */
export function separator(value = ",") {
  const known = [[",", "comma"], [";", "semicolon"], ["\t", "tab"], ["|", "bar"]];
  const control = select(known.some(([one]) => one === value) ? known : [...known, [value, value]], value);
  const element = field("Fields are separated by", control);
  element.hidden = true;
  return {
    element,
    value: () => (element.hidden ? "," : control.value),
    onChange: (listener) => control.addEventListener("change", listener),
    suit(file) {
      element.hidden = formatOf(file.name).format !== "csv";
      if (/\.tsv(\.|$)/i.test(file.name)) control.value = "\t";
      else if (control.value === "\t") control.value = ",";
    },
  };
}

/** What the service says to the first rows of a file: {element, columns, usable}. */
async function lookAt(file, target, delimiter, signal) {
  const { format, packed } = formatOf(file.name);
  if (format === "parquet" || format === null || packed === "zst") {
    return { usable: true, columns: [], element: h("p", { class: "notice" }, "A browser cannot look into this file. Its columns are compared with the model's when the job begins.") };
  }
  let text;
  try {
    text = await headOf(file, packed);
  } catch (problem) {
    if (packed === null || !(problem instanceof TypeError)) throw problem;
    // Of several gzip members one after the other, which are allowed, a browser unpacks none.
    return { usable: true, columns: [], element: h("p", { class: "notice" }, "A browser cannot unpack this file: it is damaged, or packed in several parts. The service looks at it when it is sent.") };
  }
  const { records, columns, numbers, skipped } = format === "csv" ? csvRows(text, delimiter, target) : ndjsonRows(text);
  const note = skipped > 0 && h("p", { class: "notice" }, `${whole(skipped)} of the first ${whole(records.length + skipped)} lines ${skipped === 1 ? "is no JSON object and was" : "are no JSON objects and were"} not looked at. The job judges each line by itself.`);
  if (records.length === 0 && skipped > 0) return { usable: true, columns, element: note };
  if (records.length === 0) return { usable: false, columns, element: h("p", { class: "faults" }, "No row was found in the file.") };
  const found = (await refusals(target, records, format, signal)).map((fault) => (fault.row ? { ...fault, row: numbers[fault.row - 1] } : fault));
  const inRows = found.filter((fault) => fault.row);
  const shown = records.slice(0, SHOWN);
  const bad = new Map(inRows.map((fault) => [`${fault.row} ${fault.column}`, fault.message]));
  return {
    columns,
    usable: found.length === inRows.length,
    element: [
      note,
      found.length === 0 ? h("p", { class: "mark good" }, `The first ${whole(records.length)} rows are as ${target.requested} takes them.`)
        : h("div", { class: "faults" }, h("p", {}, h("strong", {}, found.length === inRows.length ? `Of the first ${whole(records.length)} rows some will fail; the others go on.` : "The model does not take this file.")),
          h("ul", {}, found.slice(0, SHOWN).map((fault) => h("li", {}, fault.row && h("span", { class: "where" }, `Row ${fault.row}: `), fault.message)))),
      table("First rows of the file", [["Row", "number"], ...columns.map((name) => [name, ""])],
        shown.map((record, index) => [whole(numbers[index]), ...columns.map((name) => cell(record[name], bad.get(`${numbers[index]} ${name}`)))])),
    ],
  };
}

function cell(value, fault) {
  const text = value === null || value === undefined || value === "" ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value);
  if (fault) return h("span", { class: "bad-text", title: fault }, text);
  return text === "none" ? h("span", { class: "muted" }, text) : text;
}

/** The text that a file begins with, unpacked, up to its last whole line. */
async function headOf(file, packed) {
  let stream = file.stream();
  if (packed === "gz") stream = stream.pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text.replace(/^\ufeff/, "");
    text += value;
    if (text.length >= HEAD_BYTES) break;
  }
  reader.cancel().catch(() => {});
  return text.slice(0, text.lastIndexOf("\n") + 1).replace(/^\ufeff/, "");
}

/** The names of a file's columns, as far as a browser can tell. */
export async function headerOf(file, delimiter) {
  const { format, packed } = formatOf(file.name);
  if (format === "parquet" || format === null || packed === "zst") return [];
  const text = await headOf(file, packed);
  if (format === "ndjson") return ndjsonRows(text).columns;
  return parseCsv(text.slice(0, text.indexOf("\n") + 1), { delimiter })[0] ?? [];
}

function csvRows(text, delimiter, target) {
  const closed = isClosed(text) ? text : text.slice(0, text.lastIndexOf('"'));
  const [columns = [], ...all] = parseCsv(closed, { delimiter });
  const features = new Map(target.manifest.signature.features.map((feature) => [feature.name, feature]));
  // An empty text is missing only where something may be.
  const read = (text, feature) => (text === "" && feature.type === "string" && !feature.nullable ? "" : typed(text, feature.type));
  const records = all.slice(0, LOOKED_AT).map((record) => Object.fromEntries(columns.map((name, index) => [name, features.has(name) ? read(record[index], features.get(name)) : record[index]])));
  return { columns, records, numbers: records.map((_, index) => index + 1), skipped: 0 };
}

/** The lines that are objects, and their numbers among all; others are counted. */
function ndjsonRows(text) {
  const lines = text.split("\n").filter((line) => line.replace(/\r$/, "") !== "").slice(0, LOOKED_AT);
  const found = lines.map((line, index) => [objectOf(line), index + 1]).filter(([record]) => record !== null);
  const records = found.map(([record]) => record);
  return { records, columns: [...new Set(records.flatMap((record) => Object.keys(record)))], numbers: found.map(([, number]) => number), skipped: lines.length - found.length };
}

function objectOf(line) {
  try {
    const value = JSON.parse(line);
    return typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** The faults that the service finds in rows, without making a job. */
async function refusals(target, records, format, signal) {
  const { features } = target.manifest.signature;
  const has = (record, feature) => Object.hasOwn(record, feature.name);
  // Each line of NDJSON has columns of its own.
  const missing = format === "csv" ? features.filter((feature) => !has(records[0], feature)) : [];
  if (missing.length) return missing.map((feature) => ({ message: `Column ${feature.name} is not in the file.` }));
  const instances = records.map((record) => Object.fromEntries(features.filter((feature) => has(record, feature)).map((feature) => [feature.name, record[feature.name] ?? null])));
  try {
    await call("/jobs?validate_only=true", { method: "POST", json: { model: target.requested, instances }, signal });
    return [];
  } catch (problem) {
    if (problem.status !== 422) throw problem;
    return problem.errors.length ? problem.errors : [{ message: problem.message }];
  }
}
