// Numbers, sizes and times for people.
import { h } from "/dashboard/dom.js";

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** 1,234; a dash for what is not known. */
export function whole(number) {
  return number === null || number === undefined ? "–" : WHOLE.format(number);
}

/** Four significant digits. */
export function fine(number) {
  if (number === null || number === undefined) return "–";
  return typeof number === "number" ? FINE.format(number) : String(number);
}

/** 12 ms, 1.3 s, 2 min 5 s, 3 h 10 min. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${FINE.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${new Intl.NumberFormat("en", { maximumSignificantDigits: 3 }).format(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const total = Math.round(seconds);
  if (total < 3600) return `${Math.floor(total / 60)} min${total % 60 ? ` ${total % 60} s` : ""}`;
  return `${WHOLE.format(Math.floor(total / 3600))} h${Math.floor((total % 3600) / 60) ? ` ${Math.floor((total % 3600) / 60)} min` : ""}`;
}

/** 3.2 MiB. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let left = bytes;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit ? left.toFixed(left < 10 ? 1 : 0) : WHOLE.format(left)} ${units[unit]}`;
}

export function percent(share) {
  return share === null || share === undefined ? "–" : `${new Intl.NumberFormat("en", { maximumFractionDigits: 1 }).format(share * 100)} %`;
}

/** Seconds between two RFC 3339 times; null if one is missing. */
export function between(from, to) {
  return from && to ? (Date.parse(to) - Date.parse(from)) / 1000 : null;
}

/** 3 minutes ago. */
export function ago(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  for (const [unit, length] of STEPS) if (Math.abs(seconds) >= length) return RELATIVE.format(Math.trunc(seconds / length), unit);
  return "just now";
}

/** A time, relative, with the exact one in its title. */
export function when(time) {
  return time ? h("time", { datetime: time, title: exact(time), "data-ago": true }, ago(time)) : "–";
}

export function exact(time) {
  return new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

/** The hour, minute and second of a time here. */
export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** Keep relative times true. */
export function keepTimes() {
  setInterval(() => {
    for (const element of document.querySelectorAll("time[data-ago]")) {
      const text = ago(element.dateTime);
      if (element.textContent !== text) element.textContent = text;
    }
  }, 10_000);
}

const STATUS = { queued: "Queued", running: "Running", succeeded: "Succeeded", partially_succeeded: "Partly succeeded", failed: "Failed", cancelled: "Cancelled" };

/** A status as a word with a mark, so that colour is not all that tells. */
export function badge(status) {
  return h("span", { class: `badge ${status}`, "data-status": status }, STATUS[status] ?? status);
}

export const KINDS = { predict: "rows", batch: "file", train: "training", register: "artifact" };
export const STATUSES = Object.entries(STATUS);

/** The end of a job's id, which tells jobs apart; UUIDv7 begin alike. */
export function shortId(id) {
  return id.slice(-12);
}
