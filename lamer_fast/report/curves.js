const column = (run, get) => run.metrics.map(m => [m.iteration, get(m)]);
const rate = (tokens, seconds) => seconds > 0 && finite(tokens) ? tokens / seconds : undefined;
// Each: title, {line: its value of a record}, options. A chart that has no value in any record is left out.
const CURVES = [
  ["success@K of trials less that of K independent attempts, points", {difference: m => m.independent && m.independent.length > 1 ? percent(m.success_at.at(-1) - m.independent.at(-1)) : undefined}],
  ["return of a trial", {return: m => m.return}],
  ["entropy of the policy, nats per token", {entropy: m => m.entropy}],
  ["sampler against trainer, mean |difference| of log-probabilities, nats", {mismatch: m => m.mismatch.mean}],
  ["tokens per second", {sampled: m => rate(m.tokens.sampled, m.seconds.sample), trained: m => rate(m.tokens.trained, m.seconds.learn)}],
  ["seconds per iteration", Object.fromEntries([...["sample", "env", "learn", "sync"].map(p => [p, m => m.seconds[p] || 0]), ["evaluate", m => m.seconds.eval], ["wait, within sample and learn", m => m.seconds.wait]])],
  ["share of the device's physical limit, %", Object.fromEntries(["sample", "learn"].map(p => [p, m => percent(rate(m.seconds["least_" + p], m.seconds[p]))]))],
];
const MORE = [
  ["sampler against trainer, largest |difference|, nats", {largest: m => m.mismatch.max}],
  ["loss", {loss: m => m.loss}],
  ["mean |advantage| of a turn", {advantage: m => m.advantage_abs}],
  ["norm of the gradient, before clipping", {policy: m => m.grad_norm, critic: m => m.critic_grad_norm}],
  ["share of tokens clipped, %", {clipped: m => percent(m.clipped)}],
  ["distance from the reference policy, nats", {kl: m => m.kl}],
  ["learning rate", {lr: m => m.lr}],
  ["share of turns, %", {unparsable: m => percent(rate(m.counters.invalid, m.counters.turns)), "cut off": m => percent(rate(m.counters.truncated, m.counters.turns))}],
];
// Numbers that some algorithms and settings add to their records; what is not named here is drawn under its own name.
const ADDED = [
  ["critic: explained variance of returns", {explained: m => m.critic_explained}],
  ["critic: mean value, beside the mean return of a trial", {value: m => m.critic_value, return: m => m.critic_value === undefined ? undefined : m.return}],
  ["critic: squared error of its values", {loss: m => m.critic_loss}],
  ["groups of an iteration", {played: m => m.groups_played, "alike as drawn": m => m.groups_flat_drawn, "alike as trained on": m => m.groups_flat}],
  ["stage of the curriculum", {stage: m => m.stage}],
  ["consolidation: loss on later episodes that won", {loss: m => m.consolidation_loss}],
  ["consolidation: trials of an iteration that taught", {trials: m => m.consolidated}],
];
const NAMED = /^(critic_(explained|value|loss|grad_norm)|groups_(played|flat_drawn|flat)|stage|consolidation_loss|consolidated)$/;
function numbers(value, path) {
  if (finite(value)) return [[path, value]];
  return value && typeof value === "object" ? Object.entries(value).flatMap(([key, v]) => numbers(v, `${path} ${key}`)) : [];
}
// The other keys of the records, a chart each: lists and objects of numbers are its lines.
function unnamed(all) {
  return [...new Set(all.flatMap(run => run.added || []))].filter(key => !NAMED.test(key)).map(key => {
    const lines = [...new Set(all.flatMap(run => run.metrics.flatMap(m => numbers(m[key], key).map(([path]) => path))))];
    return [key.replaceAll("_", " "), Object.fromEntries(lines.map(path => [path.slice(key.length + 1) || key, m => (numbers(m[key], key).find(([p]) => p === path) || [])[1]]))];
  });
}
const linesOf = (run, get, name = (line) => line) => Object.entries(get).map(([line, value]) => ({name: name(line), points: column(run, value)})).filter(line => line.points.some(p => finite(p[1])));
function charts(run, list, options) {
  return list.map(([title, get]) => [title, linesOf(run, get)]).filter(([, lines]) => lines.length).map(([title, lines]) => chart(title, lines, options));
}
