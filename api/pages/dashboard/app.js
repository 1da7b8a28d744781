// The page: which part of it is shown, who uses it, and light or dark.
import { onUnauthorized } from "/dashboard/api.js";
import { fill, h } from "/dashboard/dom.js";
import { keepTimes } from "/dashboard/format.js";
import { job } from "/dashboard/job.js";
import { jobs } from "/dashboard/jobs.js";
import { banner, faults, tell } from "/dashboard/messages.js";
import { model } from "/dashboard/model.js";
import { models } from "/dashboard/models.js";
import { newJob } from "/dashboard/new_job.js";
import { overview } from "/dashboard/overview.js";
import { session } from "/dashboard/session.js";
import { signIn } from "/dashboard/sign_in.js";

// By the first word after #/, and whether something follows it.
const PAGES = { "": overview, jobs, "jobs/": job, new: newJob, models, "models/": model };
const THEMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const main = document.getElementById("main");
let leave = new AbortController();

/** Show what the address names. */
async function show() {
  leave.abort();
  leave = new AbortController();
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [first, ...rest] = path.split("/").map(decoded);
  const page = PAGES[rest.join("/") ? `${first}/` : first];
  banner(null);
  markPage(first);
  const at = { main, signal: leave.signal, name: rest.join("/"), query: new URLSearchParams(query), title };
  if (!page) {
    title("Not here");
    fill(main, h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "Overview")));
    return;
  }
  try {
    await page(at);
  } catch (problem) {
    if (at.signal.aborted || problem.name === "AbortError") return;
    if (problem.status === 401) return;
    if (problem.status === undefined) throw problem;
    fill(main, h("h1", {}, "This cannot be shown"), faults(problem), h("p", {}, h("button", { type: "button", onclick: show }, "Try again")));
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function title(text) {
  document.title = `${text} · Foretell`;
}

function markPage(first) {
  for (const link of document.querySelectorAll("#pages a")) {
    if (link.getAttribute("href") === `#/${first}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Ask for a key in place of the page; what it shows afterwards is what was wanted. */
function askForKey() {
  leave.abort();
  leave = new AbortController();
  document.getElementById("pages").hidden = true;
  document.getElementById("sign-out").hidden = true;
  title("Sign in");
  signIn({ main, onSignedIn: begin });
}

async function begin() {
  try {
    await session.identify();
  } catch (problem) {
    if (problem.status !== 503 && problem.status !== 0) {
      fill(main, h("h1", {}, "This cannot be shown"), faults(problem));
      return;
    }
    banner(problem);
    fill(main, h("p", { class: "muted" }, "Waiting for the service"));
    setTimeout(begin, 2000);
    return;
  }
  if (session.who.owner === null) {
    session.signOut();
    askForKey();
    return;
  }
  document.getElementById("pages").hidden = false;
  document.getElementById("sign-out").hidden = session.key === null;
  await show();
}

function chooseTheme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const names = Object.keys(THEMES);
  const say = () => {
    button.textContent = THEMES[root.dataset.theme ?? "auto"];
  };
  button.addEventListener("click", () => {
    const next = names[(names.indexOf(root.dataset.theme ?? "auto") + 1) % names.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("foretell-theme", next);
    } catch {
      // Forbidden here: the choice lives as long as the page does.
    }
    say();
  });
  say();
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById("sign-out").addEventListener("click", () => {
  leave.abort(); // what the page goes on to ask would be asked without a key
  session.signOut();
  begin();
});
window.addEventListener("hashchange", () => {
  if (document.getElementById("pages").hidden) return;
  window.scrollTo(0, 0);
  show().then(() => main.focus({ preventScroll: true }));
});
window.addEventListener("unhandledrejection", (event) => tell(event.reason));
onUnauthorized(() => {
  session.signOut();
  askForKey();
});
chooseTheme();
keepTimes();
session.restore();
begin();
