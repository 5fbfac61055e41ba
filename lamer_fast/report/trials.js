const trials = one ? one.trials : [], game = one ? one.env : "";
const played = (trial) => Math.max(0, ...trial.turns.map(t => t.episode + 1));
const won = (trial) => trial.success_by_episode.some(Boolean);
const changed = (trial) => trial.turns.some(t => t.change);
const called = (trial) => (trial.iteration === undefined ? `${trial.panel || ""} ` : `iteration ${trial.iteration}, group ${trial.group}, `).trimStart() + `trial ${trial.trial}`;
const OUTCOMES = {
  any: ["any", () => true],
  first: ["won in the first episode", (t) => t.success_by_episode[0]],
  later: ["won after a note", (t) => won(t) && !t.success_by_episode[0]],
  lost: ["never won", (t) => !won(t)],
  changed: ["acted differently after a note", changed],
};
const shown = {trial: null, pointed: null};
function dots(trial) {
  const wins = trial.success_by_episode.slice(0, played(trial));
  const e = el("span", wins.map(w => w ? "\u25cf" : "\u25cb").join(""), {role: "img", "aria-label": wins.map((w, k) => `episode ${k + 1} ${w ? "won" : "lost"}`).join(", ")});
  e.style.color = won(trial) ? "var(--green)" : "var(--red)";
  return e;
}
function lane(trial) {
  const e = el("span", null, {class: "lane", "aria-hidden": "true"});
  const scale = Math.max(...trials.filter(t => t.iteration === trial.iteration && t.group === trial.group).flatMap(t => t.turns.map(u => Math.abs(u.advantage))).filter(finite), 1e-12);
  for (const t of trial.turns) {
    const share = finite(t.advantage) ? Math.round(80 * Math.abs(t.advantage) / scale) : 0;
    e.append(el("i", "", {title: `episode ${t.episode + 1}, ${t.phase === "reflect" ? "note" : `turn ${t.turn + 1}`}: advantage ${short(t.advantage)}`, style: `background:color-mix(in srgb, var(--${t.advantage < 0 ? "red" : "green"}) ${share}%, transparent)`}));
  }
  return e;
}
function drawGroup(trial) {
  const peers = trials.filter(t => t.iteration === trial.iteration && t.group === trial.group && t.panel === trial.panel);
  const size = trial.panel === undefined && setting(one, "rollout.trials_per_group") || 0, counted = `${peers.length} ${size > peers.length ? `of its ${size} trials` : peers.length === 1 ? "trial" : "trials"}`;
  place("group").replaceChildren(el("h3", `The group: ${counted} on the same board, advantages by turn (green above the group, red below)`), el("div", null, {class: "group"}, ...peers.map(t => {
    const total = t.turns.reduce((sum, u) => sum + (u.reward || 0), 0), first = t.turns[0];
    const e = button(`trial ${t.trial} `, () => open(t), {"aria-current": t === trial});
    e.append(dots(t), el("div", `rewards ${short(total)}, first advantage ${short(first && first.advantage)}`, {class: "soft"}), lane(t));
    return e;
  })));
}
function tellNamed({names_before, names_after}) {
  return names_before && names_after ? "The note names both actions." : names_before ? "The note names the action that was given up."
    : names_after ? "The note names the new action." : "The note names neither action, so chance may explain the change.";
}
function tellChange(change) {
  const how = change.turn ? `it plays ${change.turn} turn${change.turn > 1 ? "s" : ""} alike, then, on the same board,` : "on the same first board";
  return `What the next episode did differently: ${how} it answers ${quote(change.after)} instead of ${quote(change.before)}. ${tellNamed(change)}` + (change.won ? " The episode wins." : "");
}
function drawTurn(t, index, scale) {
  const note = t.phase === "reflect", box = el("div", null, {class: note ? "turn note" : "turn"}), p = shown.pointed;
  box.append(el("h4", note ? "Note (reflection)" : `Turn ${t.turn + 1}`, {class: "soft", style: "margin:0"}));
  if (t.board) box.append(board(game, t.board, note ? "" : t.action, (shown.trial.turns[index + 1] || {}).board));
  box.append(reply(t, scale, p && p.index === index ? p.token : undefined));
  const facts = note ? [] : [`reward ${short(t.reward, 6)}`];
  if (!t.valid) facts.push("unparsable");
  if (!note && (t.success || t.done)) facts.push(t.success ? "won" : t.truncated ? "cut off by a limit" : "lost");
  if (finite(t.advantage)) facts.push(`advantage ${short(t.advantage)}, return ${short(t.return)}`);
  if (t.anchor) box.dataset.anchor = t.anchor;
  box.append(el("div", facts.join(", "), {class: "soft"}));
  if (t.change) box.append(el("p", tellChange(t.change), {class: "change", style: "margin:.3rem 0 0"}));
  return box;
}
function drawStory() {
  const {trial} = shown, scale = MODES[mode][3] ? MODES[mode][3]() : largest(trial), turns = el("div", null, {class: "turns"});
  let episode = -1;
  trial.turns.forEach((t, i) => {
    if (t.phase !== "reflect" && t.episode !== episode) { episode = t.episode; turns.append(el("h3", `Episode ${episode + 1}`, {class: "episode"})); }
    turns.append(drawTurn(t, i, scale));
  });
  const lacks = trial.shortened ? "Long texts and values of tokens are left out here, for want of room." : trial.turns.some(t => t.tokens) ? "" : "No values of tokens were recorded in this trial.";
  const extra = [lacks && el("p", lacks, {class: "soft", id: "lacks"}), trial.task_text && el("pre", trial.task_text), trial.error && el("p", `lost by its environment: ${trial.error}`)].filter(Boolean);
  place("story").replaceChildren(el("h3", `The story of ${called(trial)}`, {id: "story-title", tabindex: -1}), ...extra, turns);
}
// The list is one stop of the Tab key: the trial that is shown, or the first; arrow keys go on from there.
function markShown() {
  const all = [...place("list").querySelectorAll("button")], current = all.find(b => b.trial === shown.trial) || all[0];
  for (const b of all) { b.setAttribute("aria-current", b.trial === shown.trial); b.tabIndex = b === current ? 0 : -1; }
}
function walk(event) {
  const all = [...place("list").querySelectorAll("button")], at = all.indexOf(event.target);
  const next = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1}[event.key];
  if (at < 0 || next === undefined || !all[next]) return;
  event.preventDefault();
  all[next].focus();
}
function open(trial, pointed, focus) {
  shown.trial = trial;
  shown.pointed = pointed || null;
  markShown();
  drawGroup(trial);
  drawStory();
  if (focus) place("story-title").focus();
}
function drawList() {
  const [iteration, group, outcome] = ["iteration", "group-number", "outcome"].map(id => place(id).value), text = place("text").value.toLowerCase();
  const found = trials.filter(t => (iteration === "" || String(t.iteration) === iteration) && (group === "" || String(t.group) === group) && OUTCOMES[outcome][1](t)
    && (!text || t.turns.some(u => u.reply.toLowerCase().includes(text) || u.board.toLowerCase().includes(text))));
  place("list").replaceChildren(...found.map(t => {
    const b = button(`${called(t)} `, () => open(t));
    b.trial = t;
    b.append(dots(t));
    return el("li", null, {}, b);
  }));
  markShown();
  place("found").textContent = `${found.length} of ${trials.length} trials`;
  return found;
}
function choice(id, label, options) {
  const select = el("select", null, {id});
  for (const [value, text] of options) select.append(el("option", text, {value}));
  select.addEventListener("change", drawList);
  return el("label", label, {for: id}, select);
}
function setMode(next) {
  mode = next;
  for (const b of place("modes").querySelectorAll("button")) b.setAttribute("aria-pressed", b.dataset.mode === mode);
  place("scale").textContent = MODES[mode][2];
  if (shown.trial) drawStory();
}
function trialParts(section) {
  const unread = one.findings.unread || [];
  if (trials.length) drawTrials(section);
  return unread.length ? [el("p", `${unread.length === 1 ? "1 file of trials is" : `${unread.length} files of trials are`} damaged and left out: ${unread.slice(0, 5).join("; ")}${unread.length > 5 ? "; \u2026" : ""}`, {id: "unread"})] : [];
}
function drawTrials(section) {
  const each = (key) => [["", "all"], ...[...new Set(trials.map(t => t[key]))].filter(v => v !== undefined).sort((a, b) => a - b).map(v => [v, String(v)])];
  const search = el("input", null, {id: "text", type: "search", placeholder: "in replies and boards"});
  search.addEventListener("input", drawList);
  const modes = el("div", null, {id: "modes", role: "group", "aria-label": "colour of tokens"}, el("span", "Colour tokens by: "));
  for (const [key, [word]] of Object.entries(MODES)) modes.append(button(word, () => setMode(key), {"data-mode": key, "aria-pressed": key === mode}), " ");
  const f = one.findings, from = f.files > 1 ? ` of ${f.searched_files === f.files ? "" : `${f.searched_files} of `}${f.files} iterations` : "";
  section.append(
    el("p", `${trials.length} trials are shown, whole groups from iterations spread over the run; ${f.searched} recorded ones${from} were searched for the answers above` + (one.logged ? ` (a run records the first ${one.logged} of an iteration).` : "."), {class: "soft", id: "sampled"}),
    el("form", null, {class: "filters", "aria-label": "find trials"}, choice("iteration", "iteration", each("iteration")), choice("group-number", "group", each("group")), choice("outcome", "outcome", Object.entries(OUTCOMES).map(([k, [word]]) => [k, word])), el("label", "text", {for: "text"}, search), el("span", "", {id: "found", role: "status"})),
    el("div", null, {class: "viewer"}, el("ul", null, {id: "list", class: "list", "aria-label": "trials; arrow keys go from one to the next"}), el("div", null, {}, el("div", null, {id: "group"}), modes, el("p", "", {id: "scale", class: "soft"}), el("div", null, {id: "story"}))));
  place("list").addEventListener("keydown", walk);
  section.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  drawList();
  setMode(mode);
  const c = f.changed, telling = c && trials.find(t => t.iteration === c.iteration && t.trial === c.trial);
  open(telling || trials.findLast(t => won(t) && t.turns.some(u => u.phase === "reflect")) || trials.at(-1));
}
