// The failed rows of a job, by why they failed.
import { lines } from "/dashboard/api.js";
import { fill, h } from "/dashboard/dom.js";
import { whole } from "/dashboard/format.js";

const MOST_ROWS = 5000;
const EXAMPLES = 3;

/** Show why rows of a job failed, the most frequent reason first. */
export async function reasons(job, element, signal) {
  const groups = new Map();
  let read = 0;
  for await (const line of lines(job.links.errors, { signal })) {
    if (!line) continue;
    const fault = JSON.parse(line);
    const key = `${fault.code} ${fault.column ?? ""}`;
    const group = groups.get(key) ?? { ...fault, count: 0, examples: [] };
    group.count += 1;
    if (group.examples.length < EXAMPLES) group.examples.push(fault);
    groups.set(key, group);
    read += 1;
    if (read >= MOST_ROWS) break;
  }
  const sorted = [...groups.values()].sort((one, other) => other.count - one.count);
  const cut = job.counts.failed > read;
  fill(element,
    cut && h("p", { class: "muted" }, `Of the first ${whole(read)} of ${whole(job.counts.failed)} failed rows; the file of errors has all.`),
    h("ul", { class: "reasons" }, sorted.map((group) => h("li", {},
      h("p", {}, h("b", { class: "number" }, whole(group.count)), ` ${group.count === 1 ? "row" : "rows"}: `, h("code", {}, group.code), group.column && [" in column ", h("code", {}, group.column)]),
      h("ul", {}, group.examples.map((fault) => h("li", {}, h("span", { class: "where" }, `Row ${whole(fault.row)}${fault.key ? ` (${fault.key})` : ""}: `), fault.message)))))));
}
