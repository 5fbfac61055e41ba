// What a reader does on the report page, by mouse and keyboard, and what it shows then; see test_report.py.
const said = {}, press = (e, key) => e.dispatchEvent(new KeyboardEvent("keydown", {key})), text = (id) => place(id).textContent;
for (const id of ["learned", "changed", "blamed", "gap", "card"]) said[id] = text("answer-" + id);
said.change = document.querySelector(".note .change").textContent;
const chart1 = document.querySelector(".chart svg");
press(chart1, "Home");
said.first = chart1.parentElement.querySelector(".readout").textContent;
press(chart1, "ArrowRight");
said.second = chart1.parentElement.querySelector(".readout").textContent;
const marks = [...document.querySelectorAll("#training > .cards > .chart:nth-of-type(3) .event")];
said.marks = marks.map(e => e.textContent);
const choose = (id, value) => { place(id).value = value; place(id).dispatchEvent(new Event("change")); return text("found"); };
said.changedOnly = choose("outcome", "changed");
said.none = choose("iteration", "2");
choose("outcome", "any"); choose("iteration", "");
place("text").value = "MINE (1, 2)"; place("text").dispatchEvent(new Event("input"));
said.search = text("found");
place("answer-blamed").querySelector("button").click();
said.story = text("story-title");
said.current = document.querySelector(".token[aria-current]").textContent;
said.token = document.querySelector(".token[aria-current]").closest(".turn").querySelector("[role=status]")
  .textContent;
said.peers = [...document.querySelectorAll("#group button")].map(e => e.textContent);
said.cells = [...document.querySelector("#story .board").children].map(e => e.className);
said.spoken = document.querySelector("#story .board").getAttribute("aria-label");
said.colours = Object.fromEntries(Object.keys(MODES).map(key => {
  setMode(key);
  return [key, [...document.querySelectorAll("#story .turn .reply")].map(e => e.firstChild.style.background)];
}));
said.sokoban = [...board("sokoban", "0: # # #\n1: P X O\n2: # * S", "").children].map(e => e.className);
said.other = board("sokoban", "You see a door.", "").tagName;
said.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const named = (e) => e.textContent.trim() || e.getAttribute("aria-label") || (e.labels && e.labels.length);
said.nameless = [...document.querySelectorAll("button, a, select, input, [role=img]")].filter(e => !named(e)).length;
document.body.append(el("pre", JSON.stringify(said), {id: "probe"}));
