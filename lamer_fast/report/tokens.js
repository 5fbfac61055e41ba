// What a token can be coloured by. Each: [word, value of (token, turn), what full colour means, of the trial's largest].
const blame = ([, , logprob], turn) => finite(turn.advantage) && finite(logprob) ? turn.advantage * (1 - Math.exp(Math.min(0, logprob))) : null;
const MODES = {
  logprob: ["log-probability", (t) => t[2], "\u22125 nats and below are full colour: the sampler did not expect this token", () => 5],
  gap: ["trainer \u2212 sampler", (t) => t[3], "log-probability of the trainer minus that of the sampler; blue above, red below, full colour at the trial's largest", null],
  advantage: ["advantage", (t, turn) => turn.advantage, "of the turn, the same for all of its tokens; green above 0, red below, full colour at the trial's largest", null],
  blame: ["blame", blame, "advantage \u00d7 (1 \u2212 probability), how far the update pushes this token; red is blamed, green is praised", null],
  entropy: ["entropy", (t) => t[4], "of the distribution that the token was drawn from; 3 nats and above are full colour", () => 3],
};
let mode = "logprob";
function largest(trial) {
  const values = trial.turns.flatMap(turn => (turn.tokens || []).map(t => Math.abs(MODES[mode][1](t, turn)))).filter(finite);
  return Math.max(...values, 1e-12);
}
function paint(value, scale) {
  if (!finite(value)) return "transparent";
  const share = Math.round(70 * Math.min(1, Math.abs(value) / scale));
  const positive = mode === "gap" ? "blue" : mode === "advantage" || mode === "blame" ? "green" : "amber";
  return `color-mix(in srgb, var(--${value >= 0 ? positive : "red"}-back) ${share}%, transparent)`;
}
function tell([text, id, logprob, gap, entropy], turn) {
  const b = blame([text, id, logprob], turn), parts = [`token ${id}`, `log-probability ${short(logprob)} (probability ${short(Math.exp(logprob))})`, `trainer \u2212 sampler ${short(gap)}`, `advantage ${short(turn.advantage)}`, `blame ${short(b)}`, `entropy ${short(entropy)}`];
  return `${JSON.stringify(text)}: ${parts.join(", ")}`;
}
// The reply, token by token; `chosen` is the one to point at. Arrow keys go from token to token.
function reply(turn, scale, chosen) {
  if (!turn.tokens) return el("pre", turn.reply, {class: "reply"});
  const pre = el("pre", null, {class: "reply", tabindex: 0, role: "group", "aria-label": `tokens of: ${turn.reply.slice(0, 200)}; arrow keys read their values`});
  const readout = el("div", "", {class: "soft", role: "status"}), spans = [];
  let at = -1;
  const point = (i) => {
    if (spans[at]) spans[at].removeAttribute("aria-current");
    at = Math.min(spans.length - 1, Math.max(0, i));
    spans[at].setAttribute("aria-current", "true");
    readout.textContent = tell(turn.tokens[at], turn);
  };
  turn.tokens.forEach((token, i) => {
    const value = MODES[mode][1](token, turn);
    const e = el("span", token[0] || "\u200a", {class: "token", style: `background:${paint(value, scale)}`, title: tell(token, turn)});
    e.addEventListener("click", () => point(i));
    spans.push(e);
    pre.append(e);
  });
  pre.addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step || !spans.length) return;
    event.preventDefault();
    point(at + step);
  });
  if (chosen !== undefined && spans[chosen]) point(chosen);
  const more = turn.num_tokens - turn.tokens.length;
  return el("div", null, {}, pre, ...(more > 0 ? [el("div", `and ${more} more tokens`, {class: "soft"})] : []), readout);
}
