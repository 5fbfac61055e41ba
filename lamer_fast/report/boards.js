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
const STEPS = {up: [-1, 0, "\u2191"], down: [1, 0, "\u2193"], left: [0, -1, "\u2190"], right: [0, 1, "\u2192"]};
function player(rows) {
  const r = rows.findIndex(row => row.some(([kind]) => kind.startsWith("player")));
  return r < 0 ? null : [r, rows[r].findIndex(([kind]) => kind.startsWith("player"))];
}
// [row, column, arrow] of what the action chooses or enters; where words hide their moves, by the board after it.
function entered(game, rows, action, after) {
  const pair = game === "minesweeper" ? action.match(/(\d+)\D+(\d+)/) : null;
  if (pair) return [[pair[1] - 1, pair[2] - 1, ""]];
  let at = player(rows);
  if (!at) return [];
  if (one && one.hidden) {
    const to = player(rowsOf(game, after || "")[0]), step = to && Object.values(STEPS).find(([dr, dc]) => at[0] + dr === to[0] && at[1] + dc === to[1]);
    return step ? [[...to, step[2]]] : [];
  }
  return (action.toLowerCase().match(/up|down|left|right/g) || []).map(word => {
    const [dr, dc, arrow] = STEPS[word], to = [at[0] + dr, at[1] + dc], [kind] = (rows[to[0]] || [])[to[1]] || ["wall"];
    if (kind !== "wall") at = to;
    return [...to, arrow];
  });
}
function board(game, text, action, after) {
  const [rows, below] = rowsOf(game, text);
  if (!rows.length) return el("pre", text, {class: "text-board"});
  const spoken = rows.map((row, i) => `row ${i + 1}: ` + row.map(([kind, sign]) => NAMES[kind] || sign || "open").join(", ")).join("; ") + (action ? `; action ${action}` : "");
  const grid = el("div", null, {class: "board", role: "img", "aria-label": spoken, style: `grid-template-columns:repeat(${rows[0].length},1.5em)`});
  const marks = new Map(entered(game, rows, action || "", after).map(([r, c, arrow]) => [`${r},${c}`, arrow]));
  rows.forEach((row, r) => row.forEach(([kind, sign], c) => {
    const mark = marks.get(`${r},${c}`);
    grid.append(el("span", sign + (mark || ""), {class: `cell ${kind}${mark === undefined ? "" : " chosen"}`}));
  }));
  return below.length ? el("div", null, {}, grid, el("pre", below.join("\n"))) : grid;
}
