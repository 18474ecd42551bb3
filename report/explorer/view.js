// The page: controls, charts, list, keys. Built anew for another language or set, else only what changed.
const CHUNK = 60; // rows of the list that are made at a time
let state = readAddress(location.hash);
let rows = [], kept = [], shownRows = 0, plots = {}, textsShown = data.world, revealed = new Set();
const parts = {}; // elements that are filled again

const filled = (text, holes) => text.replace(/\{(\d)\}/g, (_, n) => holes[n]);
const closed = (text) => text.replace(/(?<=[\u4e00-\u9fff）]) (?=[\u4e00-\u9fff])/g, ""); // blanks are for Latin names
const t = (key, ...holes) => {
  const text = filled(labels.table[state.lang][key] ?? key, holes);
  return holes.length && state.lang === "zh" ? closed(text) : text;
};
const named = (kind, name) => labels.table[state.lang][`${kind}.${name}`] ?? String(name).replaceAll("_", " ");
const policyName = (name) => named("policy", name);
const knownJudges = () => JUDGES.filter((name) => rows.some((row) => row.values[name] !== null));
const isPairs = () => setOf(state.set).kind === "pairs";
const variableName = (name) => t(name === "score" && isPairs() ? "v.margin" : `v.${name}`, policyName(name.startsWith("a.") ? state.a : state.b));
const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)}%`;

// Changes ---------------------------------------------------------------------------------------------------------------
function change(changes, whole = false) {
  Object.assign(state, changes);
  writeAddress();
  if (whole) build();
  else update();
}

let written = "";
function writeAddress() {
  written = addressOf(state);
  if ((location.hash || "#") !== written) history.replaceState(null, "", written);
}

function changeCompared(changes) { // sets, trainings and the two compared: other cases
  if (changes.set && changes.set !== state.set) {
    state = { ...defaults(changes.set), lang: state.lang, keys: state.keys, q: state.q, ...changes };
  } else if (changes.a ?? changes.b) {
    const { a, b } = { ...state, ...changes };
    if (a === b) changes = changes.a ? { a, b: state.a } : { a: state.b, b };
    changes = { ...changes, ranges: {}, case: state.case };
  }
  change({ ...changes }, true);
}

function clearFilters() {
  change({ ...Object.fromEntries(JUDGES.map((name) => [name, ""])), finding: "", whose: "", source: "", q: "", ranges: {} }, true);
}

const setRange = (name, range) => {
  const ranges = { ...state.ranges };
  if (range && (range[0] !== null || range[1] !== null)) ranges[name] = range;
  else delete ranges[name];
  change({ ranges });
};

// Controls --------------------------------------------------------------------------------------------------------------
function choice(label, value, options, onChange, attributes = {}) {
  const select = el("select", { onchange: (event) => onChange(event.target.value), ...attributes },
    ...options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)));
  return el("label", {}, el("span", {}, label), select);
}

function topBar() {
  const set = setOf(state.set), names = set.policies.map((name) => [name, policyName(name)]);
  const bar = el("header", { class: "top" }, el("h1", {}, t("title", data.title)));
  if (data.sets.length > 1) bar.append(choice(t("set"), state.set, data.sets.map((one) => [one.key, named("set", one.key)]), (value) => changeCompared({ set: value }), { id: "set" }));
  if (set.trainings > 1) {
    const trainings = [...Array.from({ length: set.trainings }, (_, k) => [String(k + 1), String(k + 1)]), ["all", t("training-all")]];
    bar.append(choice(t("training"), state.train, trainings, (value) => changeCompared({ train: value }), { id: "train" }));
  }
  if (names.length > 2) {
    bar.append(choice(t("first"), state.a, names, (value) => changeCompared({ a: value }), { id: "a" }),
      choice(t("second"), state.b, names, (value) => changeCompared({ b: value }), { id: "b" }),
      el("button", { type: "button", id: "swap", onclick: () => changeCompared({ a: state.b, b: state.a }) }, t("swap")));
  }
  bar.append(el("span", { class: "buttons" },
    el("button", { type: "button", id: "blur", onclick: toggleTexts }, t(textsShown ? "blur-texts" : "show-texts")),
    el("button", { type: "button", id: "language", lang: state.lang === "en" ? "zh-CN" : "en", onclick: () => change({ lang: state.lang === "en" ? "zh" : "en" }, true) }, t("language")),
    el("button", { type: "button", id: "help", onclick: showHelp }, t("help"))));
  return bar;
}

function filterControls() {
  const whoever = [["", t("any")], ["a", t("wins", policyName(state.a))], ["b", t("wins", policyName(state.b))], ["tie", t("tie")]];
  const judges = knownJudges();
  const asked = [state.finding].filter((name) => name && !"-*".includes(name)); // by a link, perhaps of another set
  const findings = [...new Set([...asked, ...rows.flatMap((row) => findingsOf(row, ""))])].sort();
  const sources = [...new Set([state.source, ...rows.map((row) => row.case[SOURCE])])].filter(Boolean).sort();
  const box = el("div", { class: "controls" }, el("label", { class: "wide" }, el("span", {}, t("search")), el("input", { type: "search", id: "q", value: state.q, oninput: (event) => change({ q: event.target.value }) })));
  const wins = judges.length ? el("fieldset", {}, el("legend", {}, t("wins-by")), ...judges.map((name) => choice(t(`by.${name}`), state[name], whoever, (value) => change({ [name]: value }), { id: `w-${name}` }))) : el("p", { class: "note wide" }, t("no-scores"));
  box.append(wins, choice(t("finding"), state.finding, [["", t("any")], ["-", t("finding-none")], ["*", t("finding-any")], ...findings.map((name) => [name, named("finding", name)])], (value) => change({ finding: value }), { id: "finding" }),
    choice(t("whose"), state.whose, [["", t("either")], ["a", policyName(state.a)], ["b", policyName(state.b)]], (value) => change({ whose: value }), { id: "whose" }));
  if (sources.length > 1) box.append(choice(t("source"), state.source, [["", t("any")], ...sources.map((name) => [name, name])], (value) => change({ source: value }), { id: "source" }));
  box.append(el("button", { type: "button", id: "clear", onclick: clearFilters }, t("clear")));
  return box;
}

function chartControls() {
  const variables = knownVariables(rows).map((name) => [name, variableName(name)]);
  const number = (n, label) => el("label", {}, el("span", {}, label), el("input", { type: "number", step: "any", id: n ? "high" : "low", onchange: (event) => {
    const range = [...(state.ranges[state.h] ?? [null, null])];
    range[n] = event.target.value === "" ? null : Number(event.target.value);
    setRange(state.h, range);
  } }));
  parts.histogram = el("canvas", { role: "img", class: "chart" });
  parts.scatter = el("canvas", { role: "img", class: "chart tall" });
  brushable(parts.histogram, () => plots.histogram, true, (x) => setRange(state.h, x), () => setRange(state.h, null));
  brushable(parts.scatter, () => plots.scatter, false, (x, y) => change({ ranges: { ...state.ranges, [state.x]: x, [state.y]: y } }), (x, y, plot) => {
    const row = nearest(plot, x, y);
    if (row) openCase(row.key);
    else change({ ranges: Object.fromEntries(Object.entries(state.ranges).filter(([name]) => name !== state.x && name !== state.y)) });
  });
  return el("div", { class: "charts" },
    el("div", { class: "row" }, choice(t("histogram"), state.h, variables, (value) => change({ h: value }), { id: "h" }), number(0, t("from")), number(1, t("to"))), parts.histogram,
    el("div", { class: "row" }, choice(t("across"), state.x, variables, (value) => change({ x: value }), { id: "x" }), choice(t("up"), state.y, variables, (value) => change({ y: value }), { id: "y" })), parts.scatter,
    el("p", { class: "note" }, t("brush")));
}

function orderControl() {
  const known = knownVariables(rows), orders = Object.keys(ORDERS).filter((name) => canSort(name, known));
  return choice(t("sort"), state.sort, orders.map((name) => [name, t(name === "loss" && isPairs() ? "s.mistake" : `s.${name}`)]), (value) => change({ sort: value }), { id: "sort" });
}

// List ------------------------------------------------------------------------------------------------------------------
const WINNER_SIGNS = { a: "▲", b: "▼", tie: "=" };

function listRow(row) {
  const prompt = data.prompts[row.case[PROMPT]];
  const judged = JUDGES.filter((name) => name !== "equal" && row.values[name] !== null).map((name) => {
    const winner = winnerOf(row.values[name]), who = winner === "tie" ? t("tie") : t("wins", policyName(state[winner]));
    return el("span", { class: `won ${winner}`, title: `${t(`by.${name}`)}${t("colon")}${who}` }, el("b", {}, t(`short.${name}`)), ` ${WINNER_SIGNS[winner]} ${signed(row.values[name], 1)}`);
  });
  if (!judged.length) judged.push(el("span", {}, el("b", {}, variableName("words")), ` ${signed(row.values.words, 0)}`));
  const found = [...new Set(findingsOf(row, ""))].map((name) => el("span", { class: "finding" }, named("finding", name)));
  const training = state.train === "all" ? ` · ${t("of-training", row.case[TRAINING] + 1)}` : "";
  const asked = prompt?.split("\n\nuser: ").at(-1).slice(0, 160) || "–"; // of a longer conversation the last turn
  const text = prompt === null ? el("span", { class: "hidden" }, "…") : el("span", { class: "text", translate: "no" }, textsShown ? asked : veiled(asked));
  return el("li", {}, el("button", { type: "button", class: "case", "data-key": row.key, "aria-current": row.key === state.case ? "true" : null, onclick: () => openCase(row.key) },
    el("span", { class: "id" }, `${row.case[ID]}${training}`), el("span", { class: "prompt" }, text), el("span", { class: "judged" }, ...judged, ...found)));
}

function addRows() {
  const until = Math.min(kept.length, shownRows + CHUNK);
  parts.list.append(...kept.slice(shownRows, until).map(listRow));
  shownRows = until;
  parts.more.hidden = shownRows >= kept.length;
  parts.more.textContent = t("more", Math.min(CHUNK, kept.length - shownRows));
}

function fillList() {
  shownRows = 0;
  parts.list.replaceChildren();
  addRows();
  const at = kept.findIndex((row) => row.key === state.case);
  while (at >= shownRows) addRows();
  parts.none.hidden = kept.length > 0;
  parts.count.textContent = t("count", kept.length, rows.length);
  const shares = JUDGES.map((name) => [name, shareOf(kept, name)]).filter(([, share]) => share !== null);
  const told = shares.length ? [el("span", {}, t("share", policyName(state.a)), t("colon"))] : [];
  parts.shares.replaceChildren(...told, ...shares.map(([name, share]) => el("span", {}, `${t(`by.${name}`)} `, el("strong", { id: `share-${name}` }, percent(share, 1)))));
  const chips = Object.entries(state.ranges).map(([name, [low, high]]) => {
    const text = `${variableName(name)} ${low === null ? "" : fixed(low, 2)}…${high === null ? "" : fixed(high, 2)}`;
    return el("button", { type: "button", class: "chip", "aria-label": t("remove", text), onclick: () => setRange(name, null) }, `${text} ✕`);
  });
  parts.chips.replaceChildren(...chips);
}

// The whole page --------------------------------------------------------------------------------------------------------
function drawCharts() {
  if (!parts.filters.open) return;
  plots.histogram = drawHistogram(parts.histogram, rows, kept, state.h, state.ranges[state.h]);
  plots.scatter = drawScatter(parts.scatter, rows, kept, state, state.case);
  plots.histogram.redraw = plots.scatter.redraw = drawCharts;
  parts.histogram.setAttribute("aria-label", t("histogram-of", variableName(state.h), kept.length, rows.length));
  parts.scatter.setAttribute("aria-label", t("scatter-of", variableName(state.x), variableName(state.y), kept.length));
}

function update() {
  kept = selectCases(rows, state);
  if (!openRow()) state.case = kept[0]?.key ?? "";
  for (const [n, id] of ["low", "high"].entries()) document.getElementById(id).value = state.ranges[state.h]?.[n] ?? "";
  fillList();
  fillReading();
  drawCharts();
}

const wide = matchMedia("(min-width: 72rem)");
function build() {
  const focused = document.activeElement?.id, open = parts.filters?.open ?? wide.matches;
  document.documentElement.lang = { en: "en", zh: "zh-CN" }[state.lang];
  document.title = t("title", data.title);
  document.body.classList.toggle("blurred", !textsShown);
  rows = comparedCases(state);
  withinKnown(state, rows);
  Object.assign(parts, {
    list: el("ol", { class: "list" }), more: el("button", { type: "button", class: "more", onclick: addRows }), none: el("p", { class: "note" }, t("none")),
    count: el("strong", { role: "status", id: "count" }), shares: el("p", { class: "shares" }), chips: el("p", { class: "chips" }),
    reading: el("section", { class: "reading", id: "reading", "aria-label": t("reading"), tabindex: "-1" }),
  });
  parts.filters = el("details", { class: "filters", open, ontoggle: drawCharts }, el("summary", {}, t("filters")), filterControls(), chartControls());
  const notes = [data.hidden ? t("hidden-note", data.hidden) : null, textsShown ? null : t("blur-note")].filter(Boolean);
  const column = el("nav", { class: "column", "aria-label": t("cases") }, el("div", { class: "row" }, parts.count, orderControl()), parts.shares, parts.chips, ...notes.map((note) => el("p", { class: "note" }, note)), parts.none,
    el("div", { class: "listed" }, parts.list, parts.more));
  const old = [...document.body.children].filter((child) => child.tagName !== "SCRIPT" && child.tagName !== "NOSCRIPT");
  old.forEach((child) => child.remove());
  document.body.prepend(el("a", { class: "skip", href: "#reading", onclick: (event) => { event.preventDefault(); parts.reading.focus(); } }, t("skip")), topBar(), el("main", {}, parts.filters, column, parts.reading));
  const sentinel = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting) && shownRows < kept.length) addRows(); });
  update();
  sentinel.observe(parts.more);
  if (focused) document.getElementById(focused)?.focus();
}

function toggleTexts() { textsShown = !textsShown; revealed = new Set(); build(); }

function showHelp() {
  document.querySelector("dialog")?.remove();
  const keys = [["j k", "key-next"], ["/", "key-search"], ["r g d", "key-marks"], ["t", "key-texts"], ["s", "key-swap"], ["x", "key-clear"], ["c", "key-link"], ["?", "key-help"]];
  const toggle = el("input", { type: "checkbox", id: "keys", checked: state.keys === "1", onchange: (event) => change({ keys: event.target.checked ? "1" : "0" }) });
  const judges = knownJudges(), help = ["help-address", ...(judges.includes("equal") ? ["help-equal"] : []), ...(judges.length ? ["help-shares"] : [])];
  const dialog = el("dialog", { "aria-labelledby": "help-title" }, el("h2", { id: "help-title" }, t("keys")),
    el("dl", {}, ...keys.flatMap(([key, label]) => [el("dt", {}, ...key.split(" ").flatMap((one, n) => [n ? " " : "", el("kbd", {}, one)])), el("dd", {}, t(label))])),
    el("p", {}, el("label", {}, toggle, " ", t("keys-on"))), ...help.map((key) => el("p", {}, t(key))),
    el("button", { type: "button", onclick: () => dialog.close() }, t("close")));
  document.body.append(dialog);
  dialog.showModal();
}

const KEYS = {
  j: () => step(1, true), k: () => step(-1, true), "/": () => { parts.filters.open = true; document.getElementById("q").focus(); },
  r: () => toggleMark("r"), g: () => data.world && toggleMark("g"), d: () => toggleMark("d"), t: toggleTexts,
  s: () => changeCompared({ a: state.b, b: state.a }), x: clearFilters, c: copyLink, "?": showHelp,
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const inside = event.target.closest?.("input, select, textarea");
  if (event.key === "Escape" && inside) { inside.blur(); return; }
  const arrow = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (arrow && event.target.closest?.(".list")) { event.preventDefault(); step(arrow, true); return; }
  if (inside || state.keys !== "1" || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
addEventListener("hashchange", () => { if (location.hash !== written) { state = readAddress(location.hash); build(); leadToOpened(); } });
addEventListener("resize", drawCharts);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
build();
leadToOpened();
