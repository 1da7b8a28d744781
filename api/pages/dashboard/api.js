// Calls of the HTTP API, as everybody makes them; its errors are problem documents (RFC 9457).
import { session } from "/dashboard/session.js";

/** What went wrong, as the service says it. */
export class Problem extends Error {
  constructor(status, document = {}) {
    super(document.detail ?? document.title ?? `The service answered ${status}.`);
    this.status = status;
    this.code = document.code ?? `http_${status}`;
    this.requestId = document.request_id ?? null;
    this.errors = document.errors ?? [];
    this.document = document;
  }
}

const listeners = new Set();

/** Have `listener` called when the service wants a key that we do not have. */
export function onUnauthorized(listener) {
  listeners.add(listener);
}

/** The raw answer, also of an error status. Throws a Problem if there is none. */
export async function send(path, { method = "GET", headers = {}, body = undefined, signal = undefined } = {}) {
  try {
    return await fetch(path, { method, headers: { ...session.headers(), ...headers }, body, signal, cache: "no-store", redirect: "error" });
  } catch (error) {
    throw unreachable(error);
  }
}

/** What a request ended with that has no answer, or only a part of one. */
function unreachable(error) {
  return error.name === "AbortError" ? error : new Problem(0, { detail: "The service cannot be reached.", code: "unreachable" });
}

/** An answer that is no error: {status, headers, body}, with the body of JSON parsed, else null. */
export async function call(path, { json = undefined, ...options } = {}) {
  const given = json === undefined ? options : {
    ...options, body: JSON.stringify(json), headers: { "Content-Type": "application/json", ...options.headers },
  };
  const response = await send(path, given);
  await check(response);
  return { status: response.status, headers: response.headers, body: await parsed(response) };
}

/** See that an answer is no error. */
export async function check(response) {
  if (response.ok || response.status === 304) return;
  const problem = new Problem(response.status, (await parsed(response)) ?? {});
  if (response.status === 401) for (const listener of listeners) listener();
  throw problem;
}

async function parsed(response) {
  if (!/[/+]json\b/.test(response.headers.get("Content-Type") ?? "")) return null;
  return response.json().catch((error) => {
    if (error instanceof SyntaxError) return null;
    throw unreachable(error);
  });
}

/** The lines of a text answer as they come, up to `most` bytes; `cut.bytes` says whether there was more. */
export async function* lines(path, { most = Infinity, headers = {}, signal = undefined, gzip = false, cut = {} } = {}) {
  const response = await send(path, { headers, signal });
  await check(response);
  let stream = response.body;
  if (gzip) stream = stream.pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let read = 0;
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      read += value.length;
      const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = parts.pop();
      yield* parts;
      if (read >= most) {
        cut.bytes = true;
        return;
      }
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Send a body with its progress told, which fetch cannot; resolves to {status, headers, body}. */
export function upload(path, body, headers, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries({ ...session.headers(), ...headers })) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.lengthComputable ? event.loaded / event.total : null);
    request.onload = () => {
      let document = null;
      try {
        document = JSON.parse(request.responseText);
      } catch {
        // Something between us and the service answered in its own words.
      }
      if (request.status >= 200 && request.status < 300) resolve({ status: request.status, body: document });
      else {
        if (request.status === 401) for (const listener of listeners) listener();
        reject(new Problem(request.status, document ?? {}));
      }
    };
    request.onerror = () => reject(new Problem(0, { detail: "The service cannot be reached, or closed the connection before the file was sent.", code: "unreachable" }));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

/** Offer an answer as a file to keep: as it comes, or by way of memory where it takes a key, which a link cannot carry. */
export async function download(path, name) {
  if (session.key === null) {
    // A link would save a refusal too: the first byte tells whether there is one.
    const first = await send(path, { headers: { Range: "bytes=0-0" } });
    await check(first);
    await first.body?.cancel();
    save(path, name);
    return;
  }
  const response = await send(path);
  await check(response);
  const address = URL.createObjectURL(await response.blob());
  save(address, name);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function save(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
}
