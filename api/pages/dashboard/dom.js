// Elements from data. Text always becomes a text node, so nothing that users wrote is ever taken for markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes named on... are listeners, true is a bare attribute, false and null are left out. */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" && "value" in element) element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Put these children in place of those that are there; what has the focus keeps it, by its data-key. */
export function fill(element, ...children) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const key = active?.dataset?.key;
  element.replaceChildren();
  append(element, children);
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** Draws the elements of `parts` by name, each only where its data is other than what it shows: what somebody presses, focuses or selects stays. */
export function redrawing(parts) {
  const drawn = new Map();
  return (part, data, draw) => {
    const text = JSON.stringify(data);
    if (drawn.has(part) && drawn.get(part) === text) return;
    drawn.set(part, text);
    fill(parts[part], draw(data));
  };
}

let ids = 0;

/** An id that no other element has. */
export function newId(prefix = "e") {
  ids += 1;
  return `${prefix}-${ids}`;
}

/** A label with its control, and a hint below it. */
export function field(label, control, hint = null) {
  control.id ||= newId("field");
  const hintId = hint ? `${control.id}-hint` : null;
  if (hintId) control.setAttribute("aria-describedby", hintId);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint && h("p", { class: "hint", id: hintId }, hint));
}

/** A choice of [value, text] pairs. */
export function select(options, value, attributes = {}) {
  const control = h("select", attributes, options.map(([given, text]) => h("option", { value: given }, text)));
  control.value = value;
  return control;
}

/** A table; on phones each row is a card, whose cells are named by `data-label`. `columns` are [title, class] pairs. */
export function table(caption, columns, rows, attributes = {}) {
  const body = rows.map((cells) => h("tr", {}, cells.map((cell, index) =>
    h(index === 0 ? "th" : "td", { class: columns[index][1], scope: index === 0 ? "row" : null, "data-label": columns[index][0], role: index === 0 ? "rowheader" : "cell" }, h("div", {}, cell)))));
  for (const row of body) row.setAttribute("role", "row");
  // Roles are said, since browsers forget those of tables that are laid out as blocks.
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h("table", { role: "table", class: "cards", "aria-label": caption, ...attributes },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(([title, kind]) => h("th", { scope: "col", class: kind, role: "columnheader" }, title)))),
      h("tbody", { role: "rowgroup" }, body)));
}

/** A part of a page with its title. */
export function section(title, ...children) {
  const id = newId("part");
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title), children);
}

/** What is shown where there is nothing, with what to do next. */
export function empty(text, command = null, ...more) {
  return h("div", { class: "empty" }, h("p", {}, text), command && h("pre", { tabindex: "0" }, h("code", {}, command)), more);
}
