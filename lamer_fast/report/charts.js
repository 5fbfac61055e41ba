// Round numbers, about `count` of them, that cover [low, high]: an axis ends at them and not at the data.
function ticks(low, high, count, least) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(least || 0, power * [1, 2, 5, 10].find(m => m * power >= raw * (1 - 1e-9)));
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  const digits = Math.floor(Math.log10(step) + 1e-9);
  const label = (v) => v === 0 ? "0" : Math.abs(v) < 1e-3 || Math.abs(v) >= 1e6
    ? v.toExponential(Math.max(0, Math.floor(Math.log10(Math.abs(v)) + 1e-9) - digits)) : v.toFixed(Math.max(0, -digits));
  return Array.from({length: last - first + 1}, (_, i) => { const v = (first + i) * step; return {v, text: label(v)}; });
}
// lines: [{name, points: [[x, y, low?, high?], ...], at?: the number of its colour}]; options: range of y, episodes or iterations of x, marks, unit.
// A y of null was recorded and is not finite: the line breaks there, at a cross. One that is undefined was not recorded.
const dashed = (at) => [["solid", "none"], ["dashed", "6 3"], ["dotted", "2 3"]][Math.floor(at / colors.length) % 3];
function chart(title, lines, options) {
  const card = el("div", null, {class: "card chart"}), o = options || {};
  card.append(el("h3", title));
  const recorded = lines.flatMap(l => l.points).filter(p => p[1] === null || finite(p[1])), points = recorded.filter(p => finite(p[1]));
  if (!points.length) { card.append(el("p", recorded.length ? "no value is a finite number" : "no data", {class: "soft"})); return card; }
  const W = 440, H = 220, L = 52, B = 26, T = 10, R = 12;
  const xs = [...recorded.map(p => p[0]), ...(o.iterations || [])], ys = points.flatMap(p => p.slice(1)).filter(finite);
  let [low, high] = o.range || [Math.min(...ys), Math.max(...ys)];
  if (low === high) { const pad = Math.abs(low) / 10 || 0.5; low -= pad; high += pad; }
  const across = o.episodes ? o.episodes.map(v => ({v, text: String(v)})) : ticks(Math.min(...xs), Math.max(...xs, Math.min(...xs) + 1), 6, 1);
  const up = ticks(low, high, 5), [x0, x1] = [across[0].v, across.at(-1).v], [y0, y1] = [up[0].v, up.at(-1).v];
  const X = v => L + (v - x0) / (x1 - x0 || 1) * (W - L - R), Y = v => T + (1 - (v - y0) / (y1 - y0)) * (H - T - B);
  const word = o.episodes ? "episode" : "iteration", places = [...new Set(recorded.map(p => p[0]))].sort((a, b) => a - b);
  const s = svg("svg", {viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: 0, "aria-label": `${title}; arrow keys read the values`});
  for (const {v, text} of up) s.append(svg("line", {x1: L, x2: W - R, y1: Y(v), y2: Y(v), stroke: "var(--line)"}), svg("text", {x: L - 6, y: Y(v) + 4, "text-anchor": "end", class: "y"}, text));
  for (const {v, text} of across) s.append(svg("text", {x: X(v), y: H - 8, "text-anchor": v === x1 ? "end" : "middle", class: "x"}, text));
  for (const mark of o.marks || []) {
    const line = svg("line", {x1: X(mark.x), x2: X(mark.x), y1: T, y2: H - B, stroke: mark.color, "stroke-dasharray": "3 3", class: "event"});
    line.append(svg("title", {}, mark.text));
    s.append(line);
  }
  lines.forEach((line, i) => {
    const at = line.at ?? i, color = colors[at % colors.length], ok = line.points.filter(p => finite(p[1])), pieces = [[]];
    for (const p of line.points) if (finite(p[1])) pieces.at(-1).push(p); else if (p[1] === null) pieces.push([]);
    for (const piece of pieces.filter(piece => piece.length)) s.append(svg("polyline", {points: piece.map(p => `${X(p[0])},${Y(p[1])}`).join(" "), fill: "none", stroke: color, "stroke-width": 2, "stroke-dasharray": dashed(at)[1]}));
    for (const p of line.points.filter(p => p[1] === null)) s.append(svg("text", {x: X(p[0]), y: H - B - 2, "text-anchor": "middle", style: `fill:${color}`, class: "broken"}, "\u2715"));
    for (const p of ok) {
      if (finite(p[2]) && finite(p[3])) s.append(svg("line", {x1: X(p[0]), x2: X(p[0]), y1: Y(p[2]), y2: Y(p[3]), stroke: color, "stroke-width": 1.5, class: "interval"}));
      if (p.length === 4 || pieces.some(piece => piece.length === 1 && piece[0] === p)) s.append(svg("circle", {cx: X(p[0]), cy: Y(p[1]), r: 3, fill: color}));
    }
  });
  const cursor = svg("line", {y1: T, y2: H - B, stroke: "var(--soft)", visibility: "hidden"}), readout = el("div", null, {class: "readout", role: "status"});
  s.append(cursor);
  let at = places.length - 1;
  const read = () => {
    const x = places[at], here = (o.marks || []).filter(m => m.x === x).map(m => m.text);
    for (const [k, v] of Object.entries({x1: X(x), x2: X(x), visibility: "visible"})) cursor.setAttribute(k, v);
    const values = lines.flatMap(l => l.points.filter(p => p[0] === x && p[1] !== undefined).map(p => p[1] === null ? `${l.name} not finite` : `${l.name} ${short(p[1], 4)}` + (finite(p[2]) && finite(p[3]) ? ` [${short(p[2])}, ${short(p[3])}]` : "")));
    readout.textContent = [`${word} ${x}: ${values.join(", ")}`, ...here].join("; ");
  };
  s.addEventListener("pointermove", (event) => {
    const box = s.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * W;
    at = places.reduce((best, p, i) => Math.abs(X(p) - x) < Math.abs(X(places[best]) - x) ? i : best, 0);
    read();
  });
  s.addEventListener("keydown", (event) => {
    const step = {ArrowLeft: -1, ArrowRight: 1, Home: -places.length, End: places.length}[event.key];
    if (!step) return;
    event.preventDefault();
    at = Math.min(places.length - 1, Math.max(0, at + step));
    read();
  });
  const legend = el("div", null, {class: "legend"});
  lines.forEach((line, i) => { const e = el("span", line.name); e.prepend(el("i", "", {style: `border-top:3px ${dashed(line.at ?? i)[0]} ${colors[(line.at ?? i) % colors.length]}`})); legend.append(e); });
  read();
  cursor.setAttribute("visibility", "hidden");
  card.append(s, legend, readout);
  return card;
}
