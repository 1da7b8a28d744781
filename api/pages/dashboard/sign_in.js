// Asking for a key.
import { field, fill, h } from "/dashboard/dom.js";
import { faults } from "/dashboard/messages.js";
import { session } from "/dashboard/session.js";

/** Show the form in `main`; `onSignedIn` is called once a key is valid. */
export function signIn({ main, onSignedIn }) {
  const key = h("input", { type: "password", name: "key", autocomplete: "current-password", required: true, spellcheck: "false" });
  const keep = h("input", { type: "checkbox", id: "keep" });
  const problems = h("div", {});
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h("form", { class: "panel narrow", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    fill(problems);
    try {
      await session.signIn(key.value.trim(), keep.checked);
    } catch (problem) {
      fill(problems, faults(problem));
      key.setAttribute("aria-invalid", "true");
      key.focus();
      return;
    } finally {
      button.disabled = false;
    }
    onSignedIn();
  } },
  h("h1", {}, "Sign in"),
  h("p", {}, "This service wants a key. It stays in this browser and goes to this service alone."),
  field("Key", key, "It begins with ft_. Whoever runs the service makes one: python -m deploy keys create NAME --scope jobs:read --scope models:read"),
  h("div", { class: "check" }, keep, h("label", { for: "keep" }, "Keep me signed in on this computer")),
  problems, h("div", { class: "actions" }, button));
  fill(main, form);
  key.focus();
}
