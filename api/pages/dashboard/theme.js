// Light or dark as the reader chose, before anything is painted; in a file of its own, since the page's policy allows
// no script within it.
"use strict";

try {
  const chosen = localStorage.getItem("foretell-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is forbidden here: the system's choice holds.
}
