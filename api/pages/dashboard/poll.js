// Asking again while somebody looks: every two seconds, with the tag of what is known already, if it has one.
import { call } from "/dashboard/api.js";
import { banner, tell } from "/dashboard/messages.js";

const PAUSE = 2000;

/** Ask for `path()` now and again until `signal` ends it, and call `onDocument` with what is new. */
export function poll(path, onDocument, signal, pause = PAUSE) {
  let tag = null;
  let asked = null;
  let timer = null;
  let turn = 0;

  async function ask() {
    clearTimeout(timer);
    if (signal.aborted) return;
    turn += 1;
    const mine = turn;
    let again = true;
    const address = path();
    if (address !== asked) [asked, tag] = [address, null];
    try {
      const answer = await call(address, { headers: tag ? { "If-None-Match": tag } : {}, signal });
      if (mine !== turn) return;
      banner(null);
      if (answer.status !== 304) {
        tag = answer.headers.get("ETag");
        onDocument(answer.body);
      }
    } catch (problem) {
      if (signal.aborted || problem.name === "AbortError") return;
      banner(problem);
      // What is refused now will be refused again: it is gone, or the key lacks a scope.
      again = problem.status === 0 || problem.status === 429 || problem.status >= 500;
      if (!again) tell(problem);
    } finally {
      // Somebody who asked meanwhile goes on in place of this one.
      if (again && mine === turn && !signal.aborted && document.visibilityState === "visible") timer = setTimeout(ask, pause);
    }
  }

  const look = () => document.visibilityState === "visible" && ask();
  document.addEventListener("visibilitychange", look);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  });
  ask();
  return ask;
}
