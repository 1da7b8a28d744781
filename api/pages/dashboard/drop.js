// A place to drop a file, or to choose one with the keyboard.
import { fill, h, newId } from "/dashboard/dom.js";
import { size } from "/dashboard/format.js";

/** `onFile` is called with each file that is given. */
export function dropZone(label, hint, onFile) {
  const said = h("p", { class: "muted", role: "status" }, hint);
  const id = newId("file");
  const input = h("input", { type: "file", id, accept: ".csv,.tsv,.txt,.ndjson,.jsonl,.parquet,.pq,.gz,.zst", onchange: () => input.files[0] && take(input.files[0]) });
  const zone = h("div", { class: "drop" }, h("label", { for: id }, label), input, said);
  const take = (file) => {
    fill(said, `${file.name}, ${size(file.size)}`);
    onFile(file);
  };
  for (const name of ["dragenter", "dragover"]) zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.remove("over");
  });
  zone.addEventListener("drop", (event) => event.dataTransfer.files[0] && take(event.dataTransfer.files[0]));
  return zone;
}
