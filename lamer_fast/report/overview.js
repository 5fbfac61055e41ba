const ofTraining = (run) => run.metrics.flatMap(m => [m.eval_before, m.eval].filter(e => e));
const counted = (n) => `${n} iteration${n === 1 ? "" : "s"}`;
function marksOf(run) {
  const skipped = run.metrics.filter(m => m.counters.updates_skipped).map(m => ({x: m.iteration, color: "var(--red)", text: `iteration ${m.iteration}: ${m.counters.updates_skipped} updates skipped, not finite`}));
  const resumed = run.starts.filter(s => s.iteration > 0).map(s => ({x: s.iteration, color: "var(--soft)", text: `resumed after ${counted(s.iteration)}, ${s.time}`}));
  const stages = run.metrics.filter((m, i) => i && m.stage !== run.metrics[i - 1].stage).map(m => ({x: m.iteration, color: "var(--amber)", text: `stage ${m.stage} begins`}));
  const evaluations = run.evaluated.map(e => ({x: e.iteration, color: "var(--green)", text: `evaluation after ${counted(e.iteration)}`}));
  return [...skipped, ...stages, ...resumed, ...evaluations];
}
function goTo(f) {
  const trial = f && trials.find(t => t.iteration === f.iteration && t.trial === f.trial && (f.group === undefined || t.group === f.group));
  return trial ? [" ", button(`show ${called(trial)}`, () => open(trial, f.index === undefined ? null : f, true))] : [];
}
// What cannot be told or drawn says so, and takes nothing else with it.
const strange = (error) => `This part cannot be drawn: its records have another form than this version writes (${error.message}).`;
function answer(list, id, question, tell, more) {
  let text;
  try { text = tell(); } catch (error) { text = strange(error); }
  list.append(el("dt", question), el("dd", text, {id}, ...(more || [])));
}
function tellLearned(run) {
  const {first, most, last, in_a_row, compared} = run.findings.learned, episodes = setting(run, "rollout.episodes");
  if (episodes === 1) return "None: a trial of this run is one episode, so that no note is ever used.";
  const rate = (e, name, mean) => span(percent(e[mean].at(-1)), ...[e[name + "_low"], e[name + "_high"]].map(v => v && percent(v.at(-1))));
  const rates = (e) => `${rate(e, "success", "success_at")} % of the held-out boards solved with notes, ${rate(e, "independent", "independent")} % in as many independent attempts`;
  const said = [];
  if (setting(run, "rollout.reflect") === false) said.push("This run writes no notes: later episodes know the earlier ones by their history alone.");
  if (!most) said.push("No held-out boards were evaluated (eval.every, or lamer-fast eval --label).");
  else if (!first) said.push(`No evaluation shows it. The difference is largest after ${counted(most.iteration)}: ${rates(most)}; the intervals overlap.`);
  else if (first.iteration === 0) said.push(`The model used them before training: ${rates(first)}.`);
  else said.push(`The evaluation after ${counted(first.iteration)} is the first that shows it: ${rates(first)}; the intervals do not overlap.`);
  if (first && last.iteration > first.iteration) said.push(`After ${counted(last.iteration)}: ${rates(last)}.`);
  if (in_a_row) said.push(`On the training boards, iterations ${in_a_row.join(" to ")} are the first ten in a row in each of which trials won more often than as many independent attempts.`);
  else if (compared >= 10) said.push("On the training boards, there are no ten iterations in a row in each of which trials won more often than as many independent attempts.");
  return said.join(" ");
}
function tellChanged(run) {
  const {changed: c, notes, noted, unknowing} = run.findings, rate = ([no, yes]) => `${yes} of ${no + yes}${no + yes ? ` (${short(100 * yes / (no + yes), 2)} %)` : ""}`;
  if (!notes) return "The recorded trials have no notes.";
  const told = !c ? "No recorded trial acted differently on a board that it had seen in the episode before its note."
    : `Iteration ${c.iteration}, group ${c.group}, trial ${c.trial}: after the note ${quote(c.note)} episode ${c.episode + 1} answers ${quote(c.after)} instead of ${quote(c.before)} on the same board. ${tellNamed(c)}${c.won ? " The episode wins." : ""}`;
  return `${told} Back on the board of a losing action, the episode after the note repeats that action in ${rate(noted)} recorded cases, another trial that knows neither in ${rate(unknowing)}.`;
}
const tellToken = (f) => `${quote(JSON.stringify(f.text).slice(1, -1))} in iteration ${f.iteration}, group ${f.group}, trial ${f.trial}`;
function tellBlamed({findings: {blamed}}) {
  return !blamed ? "No recorded token has a negative advantage (older runs recorded none)."
    : `${tellToken(blamed)}: of the recorded tokens, the update pushes this one down most, by advantage \u00d7 (1 \u2212 probability) = ${short(blamed.advantage)} \u00d7 (1 \u2212 ${short(Math.exp(blamed.logprob))}) = ${short(blamed.value)}.`;
}
function tellGap({metrics, findings: {gap}}) {
  const broken = metrics.find(m => !finite(m.mismatch.max)), worst = metrics.reduce((a, m) => a && a.mismatch.max >= m.mismatch.max ? a : m, null), said = [];
  if (broken) said.push(`In iteration ${broken.iteration} their difference is not a finite number.`);
  else if (worst) said.push(`In iteration ${worst.iteration}: the largest difference of a token's log-probability is ${short(worst.mismatch.max)} nats, the mean ${short(worst.mismatch.mean)}.`);
  said.push(!gap ? "Recorded tokens have no log-probabilities of the trainer."
    : `Of the recorded tokens, most at ${tellToken(gap)}: the trainer is ${short(Math.abs(gap.value))} nats ${gap.value > 0 ? "above" : "below"} the sampler, so that its probability is ${short(100 * Math.abs(Math.expm1(gap.value)))} % ${gap.value > 0 ? "higher" : "lower"}.`);
  return said.join(" ");
}
function tellCard(card) {
  const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  if (!card) return "The version that made this run did not record it; lamer-fast train RECIPE --dry-run on such a machine says it.";
  const part = card.parts.filter(p => !p.on_host).reduce((a, p) => !a || p.bytes > a.bytes ? p : a, null);
  return `At most ${gib(card.total)} of ${gib(card.available)} on the card` + (card.total <= card.available ? ", so it fits" : ", so it does not fit") + `, and ${gib(card.host)} of the host. Most of it: ${part.name}, ${gib(part.bytes)}, sized by ${part.settings.join(", ")}.`;
}
function answers(run) {
  const list = el("dl", null, {class: "answer card"}), {changed, blamed, gap} = run.findings, card = run.starts.length ? run.starts.at(-1).card : null;
  if (run.metrics.length) {
    answer(list, "answer-learned", "Which iteration learned to use its notes?", () => tellLearned(run));
    answer(list, "answer-changed", "Which trial changed its mind because of a note?", () => tellChanged(run), goTo(changed));
    answer(list, "answer-blamed", "Which token was blamed?", () => tellBlamed(run), goTo(blamed));
    answer(list, "answer-gap", "Where do sampler and trainer disagree most?", () => tellGap(run), goTo(gap));
  } else answer(list, "answer-none", "What has happened?", () => "No iteration of this run has been recorded yet.");
  answer(list, "answer-card", "What would the run have cost on 24 GB?", () => tellCard(card), card ? [" ", el("a", "every part", {href: "#card-parts"})] : []);
  return list;
}
function curves(run) {
  const cards = el("div", null, {class: "cards"}), K = run.metrics.length ? run.metrics[0].success_at.length : 0, PERCENT = {range: [0, 100]};
  const marks = marksOf(run), within = (K, get) => Array.from({length: K}, (_, k) => ({name: `success@${k + 1}`, points: get(k)})), evaluated = run.evaluated;
  const estimates = (name, means, k) => evaluated.map(e => [e.iteration, e[means][k], (e[name + "_low"] || [])[k], (e[name + "_high"] || [])[k]].map((v, i) => i ? percent(v) : v));
  if (evaluated.length) {
    const n = evaluated[0].success_at.length;
    cards.append(chart("success@k on held-out boards, %, with 95 % intervals", [...within(n, k => estimates("success", "success_at", k)),
      {name: `${n} independent attempts`, points: estimates("independent", "independent", n - 1)}], {...PERCENT, marks, iterations: [...run.metrics.map(m => m.iteration), run.metrics.length]}));
  }
  const alone = run.metrics.some(m => m.independent) && K > 1 ? [{name: `${K} independent attempts`, points: column(run, m => percent((m.independent || []).at(-1)))}] : [];
  const o = {marks, iterations: [...run.metrics.map(m => m.iteration), ...marks.map(m => m.x)]};
  cards.append(
    chart("success@k on training boards, %", [...within(K, k => column(run, m => percent(m.success_at[k]))), ...alone], {...o, ...PERCENT}),
    ...charts(run, CURVES, o), ...charts(run, [...ADDED, ...unnamed([run])], o));
  const more = el("details", null, {id: "more"}, el("summary", "More curves: loss, gradient, clipping, learning rate"), el("div", null, {class: "cards"}, ...charts(run, MORE, o)));
  return [el("p", "Dashed lines mark events: red a skipped update, amber a stage of the curriculum, grey a resume, green an evaluation. Point at a curve, or focus it and use the arrow keys, to read values.", {class: "soft"}), cards, more];
}
function evaluationRows() {
  return runs.flatMap(run => run.evaluations.flatMap(e => {
    const own = [[e.label, e.evaluation], ...Object.entries(e.panels || {}).map(([name, v]) => [`${e.label}, ${name}`, v])];
    return own.map(([label, v]) => [one ? label : `${run.name}: ${label}`, v]);
  }).concat(ofTraining(run).map(e => {
    const estimate = (name, means) => e[means].map((mean, k) => ({mean, low: (e[name + "_low"] || [])[k], high: (e[name + "_high"] || [])[k]}));
    return [`${one ? "" : `${run.name}: `}after ${counted(e.iteration)}`, {panel: e.panel, num_tasks: e.tasks, episodes: e.success_at.length, trial: estimate("success", "success_at"), independent: estimate("independent", "independent")}];
  })));
}
function evaluations() {
  const found = evaluationRows(), parts = [];
  if (!found.length) return parts;
  const n = Math.max(...found.map(([, v]) => v.trial.length)), cell = (e) => span(percent(e.mean), percent(e.low), percent(e.high));
  const digests = [...new Set(found.map(([, v]) => v.panel || "unknown"))];
  for (const digest of digests) {
    const rows = [];
    for (const [label, v] of found.filter(([, v]) => (v.panel || "unknown") === digest)) for (const kind of ["trial", "independent"]) {
      if (!v[kind].length) continue;
      rows.push([`${label}: ${kind === "trial" ? "trials with reflections" : "independent attempts"}`, v.num_tasks || "unknown", ...Array.from({length: n}, (_, k) => k < v[kind].length ? cell(v[kind][k]) : ""), kind === "trial" && v.gain_over_independent ? cell(v.gain_over_independent) : ""]);
    }
    const name = digest === "unknown" ? "boards of an unrecorded panel" : `boards of panel ${digest}`;
    parts.push(el("h3", name, {style: "margin-top:1rem"}), table(["", "boards", ...Array.from({length: n}, (_, k) => `success@${k + 1}, %`), "gain, points"], rows, {"aria-label": name}));
  }
  if (found.some(([, v]) => v.gain_over_independent)) parts.push(el("p", "Gain: success@K less success@1 of trials, minus the same difference of independent attempts.", {class: "soft"}));
  const ks = Array.from({length: n}, (_, k) => k + 1), points = (estimates) => estimates.map((e, k) => [k + 1, percent(e.mean), percent(e.low), percent(e.high)]);
  const named = runs.flatMap(run => run.evaluations.flatMap(e => [[e.label, e.evaluation], ...Object.entries(e.panels || {}).map(([name, v]) => [`${e.label}, ${name}`, v])]).map(([label, v]) => [one ? label : `${run.name}: ${label}`, v]));
  const lines = named.flatMap(([label, v]) => [{name: `${label}, trials`, points: points(v.trial)}, {name: `${label}, independent`, points: points(v.independent)}]).filter(line => line.points.length);
  if (lines.length) parts.push(el("div", null, {class: "cards", style: "margin-top:1rem;max-width:620px"}, chart("success@k by episode, %", lines, {range: [0, 100], episodes: ks})));
  return parts;
}
const written = (v) => v === undefined ? "unknown" : v === null ? "none" : String(v);
function settings(run) {
  const parts = [], differs = ([, value, standard]) => standard !== undefined && JSON.stringify(value) !== JSON.stringify(standard);
  if (run.starts.length) {
    const rows = run.starts.map(s => [s.iteration ? `resumed after ${counted(s.iteration)}` : "began", s.time, s.device, `${s.threads} of ${s.cores} cores`, s.version, s.commit || "installed package", Object.entries(s.versions || {}).map(([k, v]) => `${k} ${v}`).join(", ")]);
    parts.push(table(["start", "time", "machine", "threads", "lamer-fast", "commit", "versions"], rows, {class: "left", "aria-label": "machine, commit, versions"}));
    const card = run.starts.at(-1).card;
    if (card) parts.push(el("h3", "Memory on a 24 GB card, upper bounds", {id: "card-parts", style: "margin-top:1rem"}), table(["part", "GiB", "when", "where", "smaller by"], card.parts.map(p => [p.name, (p.bytes / 2 ** 30).toFixed(3), p.when, p.on_host ? "host" : "card", p.settings.join(", ")]), {class: "left", "aria-label": "memory on a 24 GB card"}));
  } else parts.push(el("p", "Machine, commit and versions were not recorded by the version that made this run.", {class: "soft"}));
  const rows = [...run.config].sort((a, b) => differs(b) - differs(a)).map(row => { const cells = [row[0], written(row[1]), written(row[2])]; return differs(row) ? cells.map(c => el("td", c, {class: "differs"})) : cells; });
  const details = el("details", null, {id: "config"}, el("summary", `All ${rows.length} settings, ${run.config.filter(differs).length} of them not the default (first, marked)`), table(["setting", "value", "default"], rows, {class: "left", "aria-label": "settings"}));
  return [...parts, details];
}
function comparedCurves() {
  const K = (run) => setting(run, "rollout.episodes"), panels = new Set(runs.flatMap(run => run.evaluated.slice(0, 1).map(e => e.panel)));
  const ofAll = new Set(runs.map(K)).size > 1 ? ` (K: ${runs.map(K).join(", ")})` : "", ofPanels = panels.size > 1 ? ", different boards" : "";
  const last = (get) => runs.map(run => ({name: run.name, points: column(run, get)}));
  return [el("div", null, {class: "cards"},
    chart(`success@K on training boards, %${ofAll}`, last(m => percent(m.success_at.at(-1))), {range: [0, 100]}),
    chart("success@1 on training boards, %", last(m => percent(m.success_at[0])), {range: [0, 100]}),
    ...(runs.some(run => run.evaluated.length) ? [chart(`success@K on held-out boards, %${ofAll}${ofPanels}`, runs.map(run => ({name: run.name, points: run.evaluated.map(e => [e.iteration, percent(e.success_at.at(-1)), ...[e.success_low, e.success_high].map(v => v ? percent(v.at(-1)) : null)])})), {range: [0, 100]})] : []),
    chart("return of a trial", last(m => m.return)), chart("entropy, nats per token", last(m => m.entropy)), chart("mismatch, nats", last(m => m.mismatch.mean)),
    chart("sampled tokens per second", last(m => rate(m.tokens.sampled, m.seconds.sample))),
    ...[...ADDED, ...unnamed(runs)].flatMap(([title, get]) => {
      const lines = runs.flatMap((run, r) => linesOf(run, get, line => Object.keys(get).length > 1 ? `${run.name}: ${line}` : run.name).map((line, j) => ({...line, at: r + j * colors.length})));
      return lines.length ? [chart(title, lines)] : [];
    }))];
}
function comparedRuns() {
  const rows = runs.map(run => { const m = run.metrics.at(-1), s = run.starts.at(-1); return [run.name, run.metrics.length, m ? m.success_at.map(v => fixed(percent(v))).join(" / ") : "", m ? short(m.return) : "", m ? short(Math.max(...run.metrics.map(m => percent(m.success_at.at(-1))).filter(finite))) : "", s ? s.device : "unknown", s ? s.commit || s.version : "unknown"]; });
  return [table(["run", "iterations", "success@1..K at the end, %", "return", "best success@K, %", "machine", "commit"], rows, {"aria-label": "runs"})];
}
function comparedSettings() {
  const keys = [...new Set(runs.flatMap(run => run.config.map(([key]) => key)))], values = runs.map(run => new Map(run.config.map(([k, v]) => [k, v])));
  const differing = keys.filter(key => new Set(values.map(v => JSON.stringify(v.get(key)))).size > 1);
  return [differing.length ? table(["setting", ...runs.map(run => run.name)], differing.map(key => [key, ...values.map(v => v.has(key) ? written(v.get(key)) : "no such setting")]), {class: "left", "aria-label": "settings that differ"}) : el("p", "All settings are the same.")];
}
const title = runs.map(run => run.name).join(", ");
place("name").textContent = title;
place("summary").textContent = one ? one.summary : `${runs.length} runs beside each other`;
document.title = `${title}: lamer-fast report`;
function draw(id, parts) {
  try { place(id).append(...parts()); }
  catch (error) { place(id).append(el("p", strange(error))); }
}
if (one) {
  if (one.config.length) draw("answers", () => [answers(one)]);
  if (one.metrics.length) draw("training", () => curves(one));
  if (one.config.length) draw("settings", () => settings(one));
  draw("trials", () => trialParts(place("trials")));
} else {
  draw("answers", comparedRuns);
  draw("training", comparedCurves);
  draw("settings", comparedSettings);
}
draw("evaluations", evaluations);
for (const section of document.querySelectorAll("main > section")) {
  section.hidden = !section.childElementCount;
  if (section.hidden) continue;
  section.prepend(el("h2", section.dataset.title));
  place("sections").append(el("a", section.dataset.title, {href: `#${section.id}`}));
}
document.body.dataset.ready = "true";
