const evaluatedOf = (run) => run.metrics.flatMap(m => [m.eval_before, m.eval].filter(e => e));
const counted = (n) => `${n} iteration${n === 1 ? "" : "s"}`;
function marksOf(run) {
  const skipped = run.metrics.filter(m => m.counters.updates_skipped).map(m => ({x: m.iteration, color: "var(--red)", text: `iteration ${m.iteration}: ${m.counters.updates_skipped} updates skipped, not finite`}));
  const resumed = run.starts.filter(s => s.iteration > 0).map(s => ({x: s.iteration, color: "var(--soft)", text: `resumed after ${counted(s.iteration)}, ${s.time}`}));
  const evaluations = evaluatedOf(run).map(e => ({x: e.iteration, color: "var(--green)", text: `evaluation after ${counted(e.iteration)}`}));
  return [...skipped, ...resumed, ...evaluations];
}
function goTo(f) {
  const trial = f && trials.find(t => t.iteration === f.iteration && t.trial === f.trial && (f.group === undefined || t.group === f.group));
  return trial ? [" ", button(`show ${called(trial)}`, () => open(trial, f.index === undefined ? null : f, true))] : [];
}
function answer(list, id, question, text, more) {
  list.append(el("dt", question), el("dd", text, {id}, ...(more || [])));
}
function answers(run) {
  const list = el("dl", null, {class: "answer card"}), {learned, changed, blamed, gap} = run.findings;
  const rates = (e) => `${span(percent(e.success_at.at(-1)), ...[e.success_low, e.success_high].map(v => v && percent(v.at(-1))))} % with notes, ${span(percent(e.independent.at(-1)), ...[e.independent_low, e.independent_high].map(v => v && percent(v.at(-1))))} % in as many independent attempts`;
  answer(list, "answer-learned", "Which iteration learned to use its notes?", !learned ? "Nothing was evaluated on held-out boards (eval.every, or lamer-fast eval --label), so notes and mere repetition cannot be told apart."
    : learned.found ? `The evaluation after ${counted(learned.iteration)} is the first whose intervals part: ${rates(learned)}.` : `None of the evaluations has intervals that part; the largest gain is after ${counted(learned.iteration)}: ${rates(learned)}.`);
  answer(list, "answer-changed", "Which trial changed its mind because of a note?", !changed ? "No recorded trial acted differently on a board that it had seen in the episode before its note."
    : `Iteration ${changed.iteration}, group ${changed.group}, trial ${changed.trial}: after the note \u201c${changed.note}\u201d episode ${changed.episode + 1} answers ${changed.after} instead of ${changed.before} on the same board` + (changed.named ? ", the action that the note names" : "; the note does not name the action, so that chance may explain it") + (changed.won ? ", and wins." : "."), goTo(changed));
  const token = (f) => `${JSON.stringify(f.text)} in iteration ${f.iteration}, trial ${f.trial}`;
  answer(list, "answer-blamed", "Which token was blamed?", !blamed ? "No recorded token has a negative advantage (older runs recorded none)." : `${token(blamed)}: advantage ${short(blamed.advantage)}, log-probability ${short(blamed.logprob)}; advantage \u00d7 (1 \u2212 probability) = ${short(blamed.value)} is the lowest.`, goTo(blamed));
  const worst = run.metrics.reduce((a, m) => !a || m.mismatch.max > a.mismatch.max ? m : a, null);
  answer(list, "answer-gap", "Where do sampler and trainer disagree most?", (worst ? `In iteration ${worst.iteration}: ${short(worst.mismatch.max)} nats at most, ${short(worst.mismatch.mean)} on average. ` : "") + (gap ? `Of the recorded tokens, at ${token(gap)}: the trainer's log-probability is ${short(Math.abs(gap.value))} nats ${gap.value > 0 ? "above" : "below"} the sampler's.` : "Recorded tokens have no log-probabilities of the trainer."), goTo(gap));
  const card = run.starts.length ? run.starts.at(-1).card : null, gib = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const part = card && card.parts.filter(p => !p.on_host).reduce((a, p) => !a || p.bytes > a.bytes ? p : a, null);
  answer(list, "answer-card", "What would the run have cost on 24 GB?", !card ? "The version that made this run did not record it; lamer-fast train RECIPE --dry-run on such a machine says it."
    : `At most ${gib(card.total)} of ${gib(card.available)} on the card` + (card.total <= card.available ? ", so it fits" : ", so it does not fit") + `, and ${gib(card.host)} of the host. Most of it: ${part.name}, ${gib(part.bytes)}, sized by ${part.settings.join(", ")}.`, card ? [" ", el("a", "every part", {href: "#card-parts"})] : []);
  return list;
}
function curves(run) {
  const cards = el("div", null, {class: "cards"}), K = run.metrics.length ? run.metrics[0].success_at.length : 0, PERCENT = {range: [0, 100]};
  const marks = marksOf(run), within = (K, get) => Array.from({length: K}, (_, k) => ({name: `success@${k + 1}`, points: get(k)})), evaluated = evaluatedOf(run);
  const estimates = (name, means, k) => evaluated.map(e => [e.iteration, e[means][k], (e[name + "_low"] || [])[k], (e[name + "_high"] || [])[k]].map((v, i) => i ? percent(v) : v));
  if (evaluated.length) {
    const n = evaluated[0].success_at.length;
    cards.append(chart("success@k on held-out boards, %, with 95 % intervals", [...within(n, k => estimates("success", "success_at", k)),
      {name: `${n} independent attempts`, points: estimates("independent", "independent", n - 1)}], {...PERCENT, marks, iterations: [...run.metrics.map(m => m.iteration), run.metrics.length]}));
  }
  const alone = evaluated.length ? [{name: "independent attempts, held-out boards", points: estimates("independent", "independent", evaluated[0].success_at.length - 1).map(p => p.slice(0, 2))}] : [];
  const o = {marks, iterations: [...run.metrics.map(m => m.iteration), ...marks.map(m => m.x)]};
  cards.append(
    chart("success@k on training boards, %", [...within(K, k => column(run, m => percent(m.success_at[k]))), ...alone], {...o, ...PERCENT}),
    ...charts(run, CURVES, o), ...charts(run, [...ADDED, ...unnamed([run])], o));
  const more = el("details", null, {id: "more"}, el("summary", "More curves: loss, gradient, clipping, learning rate"), el("div", null, {class: "cards"}, ...charts(run, MORE, o)));
  return [el("p", "Dashed lines mark events: red a skipped update, grey a resume, green an evaluation. Point at a curve, or focus it and use the arrow keys, to read values.", {class: "soft"}), cards, more];
}
function evaluationRows() {
  return runs.flatMap(run => run.evaluations.flatMap(e => {
    const own = [[e.label, e.evaluation], ...Object.entries(e.panels || {}).map(([name, v]) => [`${e.label}, ${name}`, v])];
    return own.map(([label, v]) => [one ? label : `${run.name}: ${label}`, v]);
  }).concat(evaluatedOf(run).map(e => {
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
    const rows = run.starts.map(s => [s.iteration ? `resumed after iteration ${s.iteration}` : "began", s.time, s.device, `${s.threads} of ${s.cores} cores`, s.version, s.commit || "installed package", Object.entries(s.versions).map(([k, v]) => `${k} ${v}`).join(", ")]);
    parts.push(table(["start", "time", "machine", "threads", "lamer-fast", "commit", "versions"], rows, {class: "left", "aria-label": "machine, commit, versions"}));
    const card = run.starts.at(-1).card;
    parts.push(el("h3", "Memory on a 24 GB card, upper bounds", {id: "card-parts", style: "margin-top:1rem"}), table(["part", "GiB", "when", "where", "smaller by"], card.parts.map(p => [p.name, (p.bytes / 2 ** 30).toFixed(3), p.when, p.on_host ? "host" : "card", p.settings.join(", ")]), {class: "left", "aria-label": "memory on a 24 GB card"}));
  } else parts.push(el("p", "Machine, commit and versions were not recorded by the version that made this run.", {class: "soft"}));
  const rows = [...run.config].sort((a, b) => differs(b) - differs(a)).map(row => { const cells = [row[0], written(row[1]), written(row[2])]; return differs(row) ? cells.map(c => el("td", c, {class: "differs"})) : cells; });
  const details = el("details", null, {id: "config"}, el("summary", `All ${rows.length} settings, ${run.config.filter(differs).length} of them not the default (first, marked)`), table(["setting", "value", "default"], rows, {class: "left", "aria-label": "settings"}));
  return [...parts, details];
}
function compare() {
  const last = (get) => runs.map(run => ({name: run.name, points: column(run, get)}));
  place("training").append(el("div", null, {class: "cards"},
    chart("success@K on training boards, %", last(m => percent(m.success_at.at(-1))), {range: [0, 100]}),
    chart("success@1 on training boards, %", last(m => percent(m.success_at[0])), {range: [0, 100]}),
    ...(runs.some(run => evaluatedOf(run).length) ? [chart("success@K on held-out boards, %", runs.map(run => ({name: run.name, points: evaluatedOf(run).map(e => [e.iteration, percent(e.success_at.at(-1)), ...[e.success_low, e.success_high].map(v => v ? percent(v.at(-1)) : null)])})), {range: [0, 100]})] : []),
    chart("return of a trial", last(m => m.return)), chart("entropy, nats per token", last(m => m.entropy)), chart("mismatch, nats", last(m => m.mismatch.mean)),
    chart("sampled tokens per second", last(m => rate(m.tokens.sampled, m.seconds.sample))),
    ...[...ADDED, ...unnamed(runs)].flatMap(([title, get]) => {
      const lines = runs.flatMap((run, r) => linesOf(run, get, line => Object.keys(get).length > 1 ? `${run.name}: ${line}` : run.name).map((line, j) => ({...line, at: r + j * colors.length})));
      return lines.length ? [chart(title, lines)] : [];
    })));
  const rows = runs.map(run => { const m = run.metrics.at(-1), s = run.starts.at(-1); return [run.name, run.metrics.length, m ? m.success_at.map(v => percent(v).toFixed(1)).join(" / ") : "", m ? short(m.return) : "", m ? short(Math.max(...run.metrics.map(m => percent(m.success_at.at(-1))))) : "", s ? s.device : "unknown", s ? s.commit || s.version : "unknown"]; });
  place("answers").append(table(["run", "iterations", "success@1..K at the end, %", "return", "best success@K, %", "machine", "commit"], rows, {"aria-label": "runs"}));
  const keys = [...new Set(runs.flatMap(run => run.config.map(([key]) => key)))], values = runs.map(run => new Map(run.config.map(([k, v]) => [k, v])));
  const differing = keys.filter(key => new Set(values.map(v => JSON.stringify(v.get(key)))).size > 1);
  place("settings").append(differing.length ? table(["setting", ...runs.map(run => run.name)], differing.map(key => [key, ...values.map(v => v.has(key) ? written(v.get(key)) : "no such setting")]), {class: "left", "aria-label": "settings that differ"}) : el("p", "All settings are the same."));
}
const title = runs.map(run => run.name).join(", ");
place("name").textContent = title;
place("summary").textContent = one ? one.summary : `${runs.length} runs beside each other`;
document.title = `${title}: lamer-fast report`;
if (one) {
  if (one.metrics.length) { place("answers").append(answers(one)); place("training").append(...curves(one)); }
  if (one.config.length) place("settings").append(...settings(one));
  if (trials.length) drawTrials(place("trials"));
} else compare();
place("evaluations").append(...evaluations());
for (const section of document.querySelectorAll("main > section")) {
  section.hidden = !section.childElementCount;
  if (section.hidden) continue;
  section.prepend(el("h2", section.dataset.title));
  place("sections").append(el("a", section.dataset.title, {href: `#${section.id}`}));
}
document.body.dataset.ready = "true";
