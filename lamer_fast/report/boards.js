// A board as cells where its text is one of a game that is known here, else as text.
const SOKOBAN = {"#": ["wall", ""], "_": ["floor", ""], O: ["target", "\u25cb"], X: ["box", "\u25a0"], "*": ["box target", "\u25a0"], "\u221a": ["box target", "\u25a0"], P: ["player", "\u263b"], S: ["player target", "\u263b"]};
function mines(c) {
  if (/^[1-8]$/.test(c)) return ["open", c];
  return {"?": ["unknown", "?"], ".": ["open", ""], "0": ["open", ""], "*": ["mine", "\u2739"]}[c];
}
const GAMES = {sokoban: (c) => SOKOBAN[c], minesweeper: mines};
const NAMES = {wall: "wall", floor: "floor", target: "target", box: "box", "box target": "box on a target", player: "you", "player target": "you on a target", unknown: "unknown", mine: "mine"};
function rowsOf(game, text) {
  const cell = GAMES[game], lines = text.split("\n").filter(line => line.trim());
  if (!cell || !lines.length) return null;
  const rows = lines.map(line => [...line.replace(/^\s*(Row\s+)?\d+:\s*/, "").replace(/\s/g, "")].map(cell));
  return rows.every(row => row.length && row.length === rows[0].length && row.every(Boolean)) ? rows : null;
}
function board(game, text, reply) {
  const rows = rowsOf(game, text);
  if (!rows) return el("pre", text, {class: "text-board"});
  const spoken = rows.map((row, i) => `row ${i + 1}: ` + row.map(([kind, sign]) => NAMES[kind] || sign || "open").join(", ")).join("; ");
  const grid = el("div", null, {class: "board", role: "img", "aria-label": spoken, style: `grid-template-columns:repeat(${rows[0].length},1.5em)`});
  const pair = game === "minesweeper" ? (reply || "").match(/\(\s*(\d+)\s*,\s*(\d+)\s*\)/) : null;
  rows.forEach((row, r) => row.forEach(([kind, sign], c) => {
    const chosen = pair && +pair[1] === r + 1 && +pair[2] === c + 1;
    grid.append(el("span", sign, {class: `cell ${kind}${chosen ? " chosen" : ""}`}));
  }));
  return grid;
}
