// Sending a file with its progress shown, and a way to stop.
import { upload } from "/dashboard/api.js";
import { MEDIA_TYPES, formatOf } from "/dashboard/csv.js";
import { fill, h } from "/dashboard/dom.js";
import { percent, size } from "/dashboard/format.js";

// What says that a key stands for something else, or for a job that was removed since.
const USED_UP = ["idempotency_key_reused", "job_gone", "job_not_found"];

/** The Idempotency-Keys of a form: what is sent once more unchanged, since no answer came, has the key that it had, and makes no second job. */
export function submissions() {
  let key = null;
  let about = null;
  /** Have `send(key)` send what `told` (values of JSON) tells from anything else; resolves to what it gives. */
  return async (told, send) => {
    const text = JSON.stringify(told);
    if (key === null || about !== text) [key, about] = [newKey(), text];
    try {
      const answer = await send(key);
      key = null;
      return answer;
    } catch (problem) {
      if (USED_UP.includes(problem.code)) key = null;
      throw problem;
    }
  };
}

/** What tells a file from others, as far as it can be told without reading it. */
export function identity(file) {
  return [file.name, file.size, file.lastModified];
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Send a file to `path`; `element` shows how far it is. Resolves to the service's answer. */
export async function sendFile(path, file, element, signal, key = null) {
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort());
  const bar = h("progress", { max: 1, value: 0, "aria-label": `Sending ${file.name}` });
  const text = h("span", { class: "number" }, percent(0));
  fill(element, h("div", { class: "sending" }, bar, h("p", { class: "spread" }, h("span", {}, `Sending ${file.name}, ${size(file.size)}`), text,
    h("button", { type: "button", class: "quiet", onclick: () => stop.abort() }, "Stop"))));
  const { format } = formatOf(file.name);
  const headers = { "Content-Type": MEDIA_TYPES[format] ?? "application/octet-stream", ...(key === null ? {} : { "Idempotency-Key": key }) };
  try {
    return await upload(path, file, headers, (share) => {
      if (share === null) return;
      bar.value = share;
      text.textContent = share < 1 ? percent(share) : "sent, being kept";
    }, stop.signal);
  } finally {
    fill(element);
  }
}
