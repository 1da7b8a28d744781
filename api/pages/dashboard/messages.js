// What went wrong, and questions before what cannot be undone.
import { fill, h, newId } from "/dashboard/dom.js";

const TOAST_MILLIS = 12_000;
// What programs are told here speaks of requests and their headers.
const AWAY = { store_unavailable: "The service cannot reach its job store (Redis).", store_full: "The job store (Redis) is full: no new jobs are taken." };

/** A message that goes away by itself; an error stays for longer and can be closed. */
export function toast(text, { error = false, requestId = null } = {}) {
  const message = h("div", { class: error ? "toast error" : "toast" },
    h("p", {}, text, requestId && h("span", { class: "request" }, `request ${requestId}`)),
    h("button", { type: "button", class: "quiet", "aria-label": "Close this message", onclick: () => message.remove() }, "×"));
  document.getElementById("toasts").append(message);
  setTimeout(() => message.remove(), error ? 3 * TOAST_MILLIS : TOAST_MILLIS);
}

/** Tell of a problem; one that only says that the page was left is none. */
export function tell(problem) {
  if (problem.name === "AbortError" || problem.status === 401) return;
  if (problem.status === undefined) console.error(problem);
  toast(problem.message, { error: true, requestId: problem.requestId });
}

/** What keeps everything from working, at the top of the page; null when it works again. */
export function banner(problem) {
  const element = document.getElementById("banner");
  const serious = problem && (problem.status === 0 || problem.status >= 500);
  if (!serious) {
    element.hidden = true;
    return;
  }
  const text = problem.code === "too_many_streams" ? null
    : `${AWAY[problem.code] ?? problem.message.replace(/\.?$/, ".")} What was accepted is kept. This page tries again by itself.`;
  if (text === null || (element.textContent === text && !element.hidden)) return;
  fill(element, text);
  element.hidden = false;
}

/** The faults of a refused request, in place. */
export function faults(problem) {
  return h("div", { class: "faults", role: "alert" },
    h("p", {}, h("strong", {}, problem.message), problem.requestId && h("span", { class: "request" }, `request ${problem.requestId}`)),
    problem.errors.length > 0 && h("ul", {}, problem.errors.map((fault) => h("li", {}, where(fault), fault.message))));
}

function where(fault) {
  const parts = [fault.row && `Row ${fault.row}`, fault.column && `column ${fault.column}`].filter(Boolean);
  return parts.length ? h("span", { class: "where" }, `${parts.join(", ")}: `) : null;
}

/** Ask before something is done; resolves to null, or to what `read` gives of `content`. */
export function ask({ title, text, confirm, danger = false, content = null, read = () => true }) {
  const heading = newId("ask");
  return new Promise((resolve) => {
    let answer = null;
    const dialog = h("dialog", { "aria-labelledby": heading, onclose: () => {
      dialog.remove();
      resolve(answer);
    } },
    h("form", { onsubmit: (event) => {
      event.preventDefault();
      answer = read();
      dialog.close();
    } },
    h("h2", { id: heading }, title), text && h("p", {}, text), content,
    h("div", { class: "actions" },
      h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm),
      h("button", { type: "button", onclick: () => dialog.close() }, "Leave it as it is"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A button that works while it waits for its own end, and tells of what went wrong; `why` is why it may not be used. */
export function action(label, run, { why = null, kind = "", key = null } = {}) {
  const id = why ? newId("why") : null;
  const button = h("button", { type: "button", class: kind, disabled: Boolean(why), "aria-describedby": id, "data-key": key ?? label, onclick: async () => {
    button.disabled = true;
    try {
      await run();
    } catch (problem) {
      tell(problem);
    } finally {
      button.disabled = false;
    }
  } }, label);
  return why ? h("span", { class: "with-why" }, button, h("span", { class: "why", id }, why)) : button;
}
