// Lines of CSV (RFC 4180) and of NDJSON as rows of text or values.

/** Records of a CSV text: arrays of fields; a last line without its end is left out unless `whole`. */
export function parseCsv(text, { delimiter = ",", quote = '"', whole = true } = {}) {
  const records = [];
  let record = [];
  let value = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (quoted) {
      if (letter !== quote) value += letter;
      else if (text[at + 1] === quote) {
        value += quote;
        at += 1;
      } else quoted = false;
    } else if (letter === quote && value === "") quoted = true;
    else if (letter === delimiter) {
      record.push(value);
      value = "";
    } else if (letter === "\n") {
      record.push(value.endsWith("\r") ? value.slice(0, -1) : value);
      if (record.length > 1 || record[0] !== "") records.push(record);
      record = [];
      value = "";
    } else value += letter;
  }
  if (whole && (value !== "" || record.length)) records.push([...record, value]);
  return records;
}

/** Whether all quotes of a text are closed. */
export function isClosed(text, quote = '"') {
  let count = 0;
  for (const letter of text) if (letter === quote) count += 1;
  return count % 2 === 0;
}

// As worker/values.py reads files: texts that mean a missing value, and numbers; blanks around them do not count.
const MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"];
const NUMBER = /^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/;

/** A field of a file as the value that a feature of this type takes, as far as it is one; else the text, to be refused by name. */
export function typed(text, type) {
  if (text === "" || text === undefined) return null;
  if (type === "string") return text;
  const plain = text.replace(/^[ \t]+|[ \t]+$/g, "");
  if (MISSING.includes(plain)) return null;
  if (type === "boolean") return { true: true, false: false, 1: true, 0: false }[plain.toLowerCase()] ?? text;
  const number = Number(plain);
  return NUMBER.test(plain) && Number.isFinite(number) ? number : text;
}

/** What a file is, by its name. */
export function formatOf(name) {
  const [, format, packed] = /\.(csv|tsv|txt|ndjson|jsonl|parquet|pq)(?:\.(gz|zst))?$/i.exec(name) ?? [];
  const known = { csv: "csv", tsv: "csv", txt: "csv", ndjson: "ndjson", jsonl: "ndjson", parquet: "parquet", pq: "parquet" }[format?.toLowerCase()];
  return { format: known ?? null, packed: packed?.toLowerCase() ?? null };
}

export const MEDIA_TYPES = { csv: "text/csv", ndjson: "application/x-ndjson", parquet: "application/vnd.apache.parquet" };
