// What is compared, filtered and ordered, and the address that keeps it. Nothing here touches the page's elements.
const data = JSON.parse(document.getElementById("replies").textContent);
const labels = JSON.parse(document.getElementById("labels").textContent);

const TEXT = 0, SCORE = 1, JUDGE = 2, GOLD = 3, TOKENS = 4, FINISHED = 5, FINDINGS = 6; // of a reply
const ID = 0, TRAINING = 1, PROMPT = 2, SOURCE = 3, REPLIES = 4; // of a case
const JUDGES = ["score", "judge", "gold", "equal"];
const VARIABLES = [...JUDGES, "words", ...["score", "gold", "words", "repetition"].flatMap((name) => [`a.${name}`, `b.${name}`])];
const LENGTHS = { h: "words", x: "b.words", y: "a.words" }; // what charts show of texts alone
const MARKS = { r: "mark-repeats", g: "mark-gold", d: "mark-diff" };

// State: what the address says, and defaults for the rest ---------------------------------------------------------------
const setOf = (key) => data.sets.find((one) => one.key === key);
const prefer = (names, wanted) => wanted.find((name) => names.includes(name));

// Files may be without scores: then lengths stand where scores would.
const scored = Object.fromEntries(data.sets.map((set) => [set.key, set.cases.some((one) => one[REPLIES].some((reply) => (reply?.[SCORE] ?? null) !== null))]));

function defaults(key) {
  const set = setOf(key) ?? data.sets[0], names = set.policies, mistakes = set.kind === "pairs" && scored[set.key];
  const shown = scored[set.key] ? { h: "score", x: "b.score", y: "a.score" } : LENGTHS;
  const a = prefer(names, ["chosen", "dpo", "sft"]) ?? names.at(-1);
  const others = names.filter((name) => name !== a);
  const b = prefer(others, ["rejected", "sft", "base", "reference"]) ?? others[0] ?? a;
  return {
    lang: labels.start, set: set.key, train: "1", a, b, ...Object.fromEntries(JUDGES.map((name) => [name, ""])),
    finding: "", whose: "", source: "", q: "", sort: mistakes ? "loss" : "file", ...shown, marks: data.world ? "rg" : "r",
    keys: "1", case: "", ranges: {},
  };
}

function readAddress(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const state = defaults(given.get("set"));
  const allowed = allowedValues(state.set);
  for (const [name, value] of given) {
    const range = name.startsWith("r.") && value.match(/^(-?[\d.]*)\.\.(-?[\d.]*)$/);
    if (range && VARIABLES.includes(name.slice(2))) {
      const [low, high] = range.slice(1).map((end) => (end === "" || Number.isNaN(Number(end)) ? null : Number(end)));
      if (low !== null || high !== null) state.ranges[name.slice(2)] = [low, high];
    } else if (name in allowed && (allowed[name] === null || allowed[name].includes(value))) state[name] = value;
  }
  if (state.a === state.b && setOf(state.set).policies.length > 1) state.b = setOf(state.set).policies.find((name) => name !== state.a);
  return state;
}

function allowedValues(key) {
  const set = setOf(key), trainings = Array.from({ length: set.trainings }, (_, k) => String(k + 1));
  const whoever = ["", "a", "b", "tie"];
  return {
    lang: Object.keys(labels.table), set: data.sets.map((one) => one.key), train: [...trainings, "all"], a: set.policies, b: set.policies,
    ...Object.fromEntries(JUDGES.map((name) => [name, whoever])), finding: null, whose: ["", "a", "b"], source: null, q: null,
    sort: Object.keys(ORDERS), h: VARIABLES, x: VARIABLES, y: VARIABLES, marks: null, keys: ["0", "1"], case: null,
  };
}

function addressOf(state) {
  const usual = defaults(state.set), said = new URLSearchParams();
  if (state.set !== data.sets[0].key) said.set("set", state.set);
  for (const [name, value] of Object.entries(state)) {
    if (name !== "ranges" && name !== "set" && value !== usual[name]) said.set(name, value);
  }
  for (const [name, [low, high]] of Object.entries(state.ranges)) said.set(`r.${name}`, `${low ?? ""}..${high ?? ""}`);
  return "#" + said.toString();
}

// Cases -----------------------------------------------------------------------------------------------------------------
const textOf = (reply) => data.texts[reply[TEXT]];
const less = (first, second) => (first === null || second === null || first === undefined || second === undefined ? null : first - second);

// The cases of a set with what is known of the two replies that are compared; `values` are null where unknown.
function comparedCases(state) {
  const set = setOf(state.set), first = set.policies.indexOf(state.a), second = set.policies.indexOf(state.b);
  const counts = {};
  return set.cases.map((one) => {
    const training = one[TRAINING], n = (counts[training] = (counts[training] ?? -1) + 1);
    return { case: one, key: `${training + 1}-${n}`, a: one[REPLIES][first], b: one[REPLIES][second] };
  }).filter((row) => row.a && row.b && (state.train === "all" || row.case[TRAINING] === Number(state.train) - 1))
    .map((row) => ({ ...row, values: valuesOf(row, set, state) }));
}

function valuesOf(row, set, state) {
  const { a, b } = row, [ta, tb] = [textOf(a), textOf(b)], slopes = set.slopes[row.case[TRAINING]];
  const slope = slopes[`${state.a}|${state.b}`] ?? slopes[`${state.b}|${state.a}`] ?? 0;
  const score = less(a[SCORE], b[SCORE]), words = ta.w - tb.w;
  return {
    score, words, judge: less(a[JUDGE], b[JUDGE]), gold: less(a[GOLD], b[GOLD]), equal: score === null ? null : score - slope * words,
    "a.score": a[SCORE], "b.score": b[SCORE], "a.gold": a[GOLD], "b.gold": b[GOLD], "a.words": ta.w, "b.words": tb.w,
    "a.repetition": ta.r, "b.repetition": tb.r,
  };
}

const knownVariables = (rows) => VARIABLES.filter((name) => rows.some((row) => row.values[name] !== null));

// A link may ask for what these cases do not have, such as gold: the nearest that they have stands in its place.
function withinKnown(state, rows) {
  const known = knownVariables(rows), usual = defaults(state.set);
  for (const axis of ["h", "x", "y"]) {
    if (!known.includes(state[axis])) state[axis] = prefer(known, [state[axis] === "gold" ? "judge" : "", usual[axis], LENGTHS[axis]]) ?? usual[axis];
  }
  if (!canSort(state.sort, known)) state.sort = canSort(usual.sort, known) ? usual.sort : "file";
}

// What is searched: prompt and all replies of a case, in small letters; made once.
const searched = new WeakMap();
function wordsOf(one) {
  if (!searched.has(one)) {
    const texts = [data.prompts[one[PROMPT]], ...one[REPLIES].map((reply) => reply && textOf(reply).t)];
    searched.set(one, texts.filter(Boolean).join("\n").toLowerCase());
  }
  return searched.get(one);
}

const winnerOf = (value) => (value === null ? null : value > 0 ? "a" : value < 0 ? "b" : "tie");

function findingsOf(row, whose) {
  return [...(whose === "b" ? [] : row.a[FINDINGS]), ...(whose === "a" ? [] : row.b[FINDINGS])];
}

function fits(row, state, query) {
  if (JUDGES.some((name) => state[name] && winnerOf(row.values[name]) !== state[name])) return false;
  if (state.source && row.case[SOURCE] !== state.source) return false;
  if (state.finding) {
    const found = findingsOf(row, state.whose);
    if (state.finding === "-" ? found.length : state.finding === "*" ? !found.length : !found.includes(state.finding)) return false;
  }
  for (const [name, [low, high]] of Object.entries(state.ranges)) {
    const value = row.values[name];
    if (value === null || (low !== null && value < low) || (high !== null && value > high)) return false;
  }
  return query.every((word) => wordsOf(row.case).includes(word));
}

const queryWords = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

// Orders: what is smallest comes first; rows without it come last, and equal ones as in the file.
const ORDERS = {
  file: () => 0, gain: (v) => -v.score, loss: (v) => v.score, close: (v) => Math.abs(v.score),
  "gold-gain": (v) => -v.gold, "gold-loss": (v) => v.gold,
  against: (v) => v.score * v.gold, judges: (v) => v.score * v.judge,
  "equal-gain": (v) => -v.equal, "equal-loss": (v) => v.equal, longer: (v) => -v.words, shorter: (v) => v.words,
  repetition: (v) => -Math.max(v["a.repetition"], v["b.repetition"]),
};
const NEEDS = {
  gain: ["score"], loss: ["score"], close: ["score"], "gold-gain": ["gold"], "gold-loss": ["gold"], against: ["score", "gold"],
  judges: ["score", "judge"], "equal-gain": ["equal"], "equal-loss": ["equal"],
};
const canSort = (name, known) => (NEEDS[name] ?? []).every((variable) => known.includes(variable));

function selectCases(rows, state) {
  const query = queryWords(state.q), place = ORDERS[state.sort], needs = NEEDS[state.sort] ?? [];
  const kept = rows.filter((row) => fits(row, state, query));
  if (state.sort === "file") return kept;
  const at = (row) => (needs.some((name) => row.values[name] === null) ? Infinity : place(row.values));
  return kept.map((row) => [at(row), row]).sort((one, other) => one[0] - other[0] || 0).map(([, row]) => row);
}

// Share of the cases that the first reply wins, ties one half.
function shareOf(rows, name) {
  const known = rows.map((row) => winnerOf(row.values[name])).filter((winner) => winner !== null);
  return known.length ? known.reduce((sum, winner) => sum + { a: 1, tie: 0.5, b: 0 }[winner], 0) / known.length : null;
}
