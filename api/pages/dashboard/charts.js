// Small charts in SVG, each with the same numbers in words or in a table for those who do not see it.
import { fill, h, s } from "/dashboard/dom.js";
import { fine, percent, whole } from "/dashboard/format.js";

const WIDTH = 600;
const HEIGHT = 120;

/**
 * A value over time that is replaced as it goes on. `lines` are {name, kind, values}, with null where there is none;
 * `told` says what stands under the pointer.
 */
export function timeChart(title, { format, told }) {
  const now = h("p", { class: "chart-now" });
  const scale = h("div", { class: "chart-scale", "aria-hidden": "true" });
  const plot = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title });
  const caption = h("p", { class: "chart-caption muted" });
  const element = h("figure", { class: "chart" }, h("figcaption", {}, title), now, h("div", { class: "chart-box" }, scale, plot), caption);
  let state = { slots: [], lines: [], said: "" };

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const index = Math.min(state.slots.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * state.slots.length)));
    if (state.slots[index]) caption.textContent = told(state.slots[index]);
  });
  plot.addEventListener("pointerleave", () => {
    caption.textContent = state.said;
  });

  function update(slots, lines, headline, said) {
    state = { slots, lines, said };
    const top = nice(Math.max(...lines.flatMap((line) => line.values.map((value) => value ?? 0)), 0));
    const x = (index) => (index + 0.5) / slots.length * WIDTH;
    const y = (value) => HEIGHT - 4 - value / top * (HEIGHT - 8);
    fill(plot, [0.5, 1].map((share) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top * share), y2: y(top * share) })),
      lines.map((line) => drawn(line, x, y)));
    fill(now, headline);
    plot.setAttribute("aria-label", `${title}: ${now.textContent}. ${said}`);
    fill(scale, h("span", {}, format(top)), h("span", {}, format(0)));
    caption.textContent = said;
  }
  return { element, update };
}

function drawn(line, x, y) {
  if (line.kind === "bars") {
    const width = Math.max(1, WIDTH / line.values.length - 2);
    return line.values.map((value, index) => value ? s("rect", { class: line.tone, x: x(index) - width / 2, width, y: y(value), height: Math.max(0, y(0) - y(value)) }) : null);
  }
  // A gap is bridged by nothing: where nothing ended there is no time to tell.
  return runs(line.values).map((run) => run.length === 1
    ? s("line", { class: `line ${line.tone}`, x1: x(run[0]) - 4, x2: x(run[0]) + 4, y1: y(line.values[run[0]]), y2: y(line.values[run[0]]) })
    : s("path", { class: `line ${line.tone}`, d: run.map((index, at) => `${at ? "L" : "M"}${x(index).toFixed(1)} ${y(line.values[index]).toFixed(1)}`).join("") }));
}

/** Indices of values that follow each other without a gap. */
function runs(values) {
  const found = [];
  values.forEach((value, index) => {
    if (value === null) return;
    if (index && values[index - 1] !== null) found.at(-1).push(index);
    else found.push([index]);
  });
  return found;
}

/** The next round number from a maximum on. */
export function nice(most) {
  if (!(most > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].find((step) => step * unit >= most) * unit;
}

/** How often each value occurs: ranges of numbers, or the most frequent of words. */
export function histogram(values, bins = 24) {
  const numbers = values.filter((value) => typeof value === "number" && Number.isFinite(value));
  if (numbers.length && numbers.length >= values.length / 2) {
    const least = numbers.reduce((low, value) => Math.min(low, value), Infinity);
    const most = numbers.reduce((high, value) => Math.max(high, value), -Infinity);
    const count = least === most ? 1 : Math.min(bins, Math.max(5, Math.ceil(Math.sqrt(numbers.length))));
    const width = (most - least) / count || 1;
    const counts = new Array(count).fill(0);
    for (const value of numbers) counts[Math.min(count - 1, Math.floor((value - least) / width))] += 1;
    return counts.map((number, index) => ({ name: count === 1 ? fine(least) : `${fine(least + index * width)} to ${fine(least + (index + 1) * width)}`, count: number, from: least + index * width }));
  }
  const counts = new Map();
  for (const value of values) if (value !== null && value !== "") counts.set(String(value), (counts.get(String(value)) ?? 0) + 1);
  const sorted = [...counts].sort((one, other) => other[1] - one[1]);
  const shown = sorted.slice(0, bins - 1).map(([name, count]) => ({ name, count }));
  const left = sorted.slice(bins - 1).reduce((sum, [, count]) => sum + count, 0);
  return left ? [...shown, { name: `${whole(sorted.length - shown.length)} others`, count: left }] : shown;
}

/** Bars of {name, count}; numbers stand side by side, words below each other. */
export function barChart(title, bars) {
  const total = bars.reduce((sum, bar) => sum + bar.count, 0);
  const top = Math.max(...bars.map((bar) => bar.count), 1);
  if (bars.some((bar) => bar.from === undefined)) {
    return h("ul", { class: "bars", "aria-label": title }, bars.map((bar) => h("li", {},
      h("span", { class: "bar-name" }, bar.name), h("meter", { min: 0, max: top, value: bar.count, "aria-hidden": "true" }),
      h("span", { class: "number" }, `${whole(bar.count)} (${percent(bar.count / total)})`))));
  }
  const width = WIDTH / bars.length;
  return h("figure", { class: "chart" },
    h("div", { class: "chart-box" },
      h("div", { class: "chart-scale", "aria-hidden": "true" }, h("span", {}, whole(top)), h("span", {}, "0")),
      s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${whole(total)} values from ${bars[0].name.split(" to ")[0]} to ${bars.at(-1).name.split(" to ").at(-1)}` },
        bars.map((bar, index) => s("rect", { class: "tone-1", x: index * width + 1, width: Math.max(1, width - 2), y: HEIGHT - bar.count / top * (HEIGHT - 4), height: bar.count / top * (HEIGHT - 4) }, s("title", {}, `${bar.name}: ${whole(bar.count)}`))))),
    h("p", { class: "chart-ends number", "aria-hidden": "true" }, h("span", {}, bars[0].name.split(" to ")[0]), h("span", {}, bars.at(-1).name.split(" to ").at(-1))),
    h("details", {}, h("summary", {}, "As a table"),
      h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Range"), h("th", { scope: "col", class: "number" }, "Rows"))),
        h("tbody", {}, bars.map((bar) => h("tr", {}, h("th", { scope: "row" }, bar.name), h("td", { class: "number" }, whole(bar.count))))))));
}

/** A number of each version; `points` are {version, value, mark}, oldest first. */
export function versionChart(title, points) {
  const values = points.map((point) => point.value);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = (high - low) * 0.15 || Math.abs(high) * 0.1 || 1;
  const x = (index) => (index + 0.5) / points.length * WIDTH;
  const y = (value) => HEIGHT - (value - low + room) / (high - low + 2 * room) * HEIGHT;
  const described = points.map((point) => `version ${point.version} ${fine(point.value)}`).join(", ");
  return h("figure", { class: "chart" },
    h("div", { class: "chart-box" },
      h("div", { class: "chart-scale", "aria-hidden": "true" }, h("span", {}, fine(high + room)), h("span", {}, fine(low - room))),
      s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${described}` },
        s("path", { class: "line tone-muted", d: points.map((point, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(point.value).toFixed(1)}`).join("") }),
        // Lines of no length with round ends are dots that keep their shape when the chart is stretched.
        points.map((point, index) => s("path", { class: `dot ${point.mark ?? ""}`, d: `M${x(index).toFixed(1)} ${y(point.value).toFixed(1)}h0.01` }, s("title", {}, `version ${point.version}: ${fine(point.value)}`))))),
    h("p", { class: "chart-names number", "aria-hidden": "true" }, points.map((point) => h("span", { class: point.mark ?? null }, point.version))));
}

/** An interval around a difference, with zero marked. */
export function intervalChart(title, { low, high, value, least, most }) {
  const reach = Math.max(Math.abs(low), Math.abs(high), Math.abs(value)) * 1.15 || 1;
  const x = (number) => (number + reach) / (2 * reach) * WIDTH;
  const good = low > 0;
  return h("figure", { class: "chart interval" },
    s("svg", { viewBox: `0 0 ${WIDTH} 40`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${fine(value)}, between ${fine(low)} and ${fine(high)}` },
      s("line", { class: "grid", x1: 0, x2: WIDTH, y1: 20, y2: 20 }),
      s("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 40 }),
      s("line", { class: `span ${good ? "tone-good" : "tone-muted"}`, x1: x(low), x2: x(high), y1: 20, y2: 20 }),
      s("path", { class: `dot ${good ? "good" : ""}`, d: `M${x(value).toFixed(1)} 20h0.01` })),
    h("p", { class: "chart-ends", "aria-hidden": "true" }, h("span", {}, least), h("span", {}, "no difference"), h("span", {}, most)));
}

/** A few numbers as a line without axes. */
export function sparkline(label, values, limit) {
  const top = Math.max(...values, limit * 1.2);
  const x = (index) => values.length === 1 ? 60 : index / (values.length - 1) * 116 + 2;
  const y = (value) => 22 - value / top * 20;
  return s("svg", { class: "spark", viewBox: "0 0 120 24", role: "img", "aria-label": label },
    s("line", { class: "zero", x1: 0, x2: 120, y1: y(limit), y2: y(limit) }),
    s("path", { class: "line tone-1", d: values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("") }),
    s("path", { class: "dot small", d: `M${x(values.length - 1).toFixed(1)} ${y(values.at(-1)).toFixed(1)}h0.01` }));
}
