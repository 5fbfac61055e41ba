const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs, one = runs.length === 1 ? runs[0] : null;
const colors = ["var(--blue)", "var(--amber)", "var(--green)", "var(--red)", "var(--soft)"];
const place = (id) => document.getElementById(id);
// Texts are set as text here and nowhere else, so that none of them can be markup.
function el(tag, text, attributes, ...children) {
  const e = document.createElement(tag);
  if (text !== undefined && text !== null) e.textContent = text;
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}
function svg(tag, attributes, text) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}
function button(text, act, attributes) {
  const e = el("button", text, {type: "button", ...attributes});
  e.addEventListener("click", act);
  return e;
}
function table(head, rows, attributes) {
  const e = el("table", null, attributes), top = el("tr");
  for (const text of head) top.append(el("th", text, {scope: "col"}));
  e.append(top);
  for (const row of rows) {
    const line = el("tr");
    for (const cell of row) line.append(cell instanceof Node ? cell : el("td", cell));
    e.append(line);
  }
  return el("div", null, {class: "card scroll", tabindex: 0, role: "region", "aria-label": (attributes || {})["aria-label"] || "table"}, e);
}
// Words of a model between marks that isolate their direction of writing: they turn no word around them.
const quote = (text) => `\u201c\u2068${text}\u2069\u201d`;
const setting = (run, key) => (run.config.find(([k]) => k === key) || [])[1];
const finite = (v) => typeof v === "number" && isFinite(v);
const short = (v, digits = 3) => !finite(v) ? "unknown" : String(+v.toPrecision(digits)).replace("-", "\u2212");
const percent = (v) => finite(v) ? 100 * v : v;
const fixed = (v) => finite(v) ? v.toFixed(1) : "unknown";
const span = (mean, low, high) => fixed(mean) + (finite(low) && finite(high) ? ` [${low.toFixed(1)}, ${high.toFixed(1)}]` : "");
