// A board as cells where its text is one of a game that is known here, else as text.
const SOKOBAN = {"#": ["wall", ""], "_": ["floor", ""], O: ["target", "\u25cb"], X: ["box", "\u25a0"], "*": ["box target", "\u25a0"], "\u221a": ["box target", "\u25a0"], P: ["player", "\u263b"], S: ["player target", "\u263b"]};
function mines(c) {
  if (/^[1-8]$/.test(c)) return ["open", c];
  return {"?": ["unknown", "?"], ".": ["open", ""], "0": ["open", ""], "*": ["mine", "\u2739"]}[c];
}
const GAMES = {sokoban: (c) => SOKOBAN[c], minesweeper: mines};
const NAMES = {wall: "wall", floor: "floor", target: "target", box: "box", "box target": "box on a target", player: "you", "player target": "you on a target", unknown: "unknown", mine: "mine"};
// [rows of cells, what stands below them] such as what the last word did
function rowsOf(game, text) {
  const cell = GAMES[game], lines = text.split("\n").filter(line => line.trim()), rows = [];
  for (const line of cell ? lines : []) {
    const row = [...line.replace(/^\s*(Row\s+)?\d+:\s*/, "").replace(/\s/g, "")].map(cell);
    if (!row.length || !row.every(Boolean) || row.length !== (rows[0] || row).length) break;
    rows.push(row);
  }
  return [rows, lines.slice(rows.length)];
}
function board(game, text, reply) {
  const [rows, below] = rowsOf(game, text);
  if (!rows.length) return el("pre", text, {class: "text-board"});
  const spoken = rows.map((row, i) => `row ${i + 1}: ` + row.map(([kind, sign]) => NAMES[kind] || sign || "open").join(", ")).join("; ");
  const grid = el("div", null, {class: "board", role: "img", "aria-label": spoken, style: `grid-template-columns:repeat(${rows[0].length},1.5em)`});
  const pair = game === "minesweeper" ? (reply || "").match(/\(\s*(\d+)\s*,\s*(\d+)\s*\)/) : null;
  rows.forEach((row, r) => row.forEach(([kind, sign], c) => {
    const chosen = pair && +pair[1] === r + 1 && +pair[2] === c + 1;
    grid.append(el("span", sign, {class: `cell ${kind}${chosen ? " chosen" : ""}`}));
  }));
  return below.length ? el("div", null, {}, grid, el("pre", below.join("\n"))) : grid;
}
