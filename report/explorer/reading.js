// The open case: what was asked, who wins by which judge, and the replies with their marks.
const openRow = () => rows.find((row) => row.key === state.case) ?? null;

function openCase(key, focus = false) {
  state.case = key;
  writeAddress();
  parts.list.querySelector("[aria-current]")?.removeAttribute("aria-current");
  while (shownRows < kept.length && kept.findIndex((row) => row.key === key) >= shownRows) addRows();
  const button = parts.list.querySelector(`[data-key="${CSS.escape(key)}"]`);
  button?.setAttribute("aria-current", "true");
  button?.scrollIntoView({ block: "nearest" });
  if (focus) button?.focus({ preventScroll: true });
  fillReading();
  drawCharts();
  if (!focus && matchMedia("(max-width: 48rem)").matches) parts.reading.scrollIntoView({ block: "start" });
}

// A link that names a case leads to it: in the list and, where list and texts stand one below the other, on the page.
function leadToOpened() {
  if (!new URLSearchParams(location.hash.slice(1)).get("case")) return;
  parts.list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  if (matchMedia("(max-width: 48rem)").matches) parts.reading.scrollIntoView({ block: "start" });
}

function step(by, focus) {
  const at = kept.findIndex((row) => row.key === state.case);
  const row = kept[at < 0 ? 0 : Math.min(Math.max(at + by, 0), kept.length - 1)];
  if (row) openCase(row.key, focus);
}

function judgedTable(row) {
  const known = { score: [row.a[SCORE], row.b[SCORE]], judge: [row.a[JUDGE], row.b[JUDGE]], gold: [row.a[GOLD], row.b[GOLD]], equal: [null, null] };
  const lines = JUDGES.filter((name) => row.values[name] !== null).map((name) => {
    const winner = winnerOf(row.values[name]);
    return el("tr", {}, el("th", { scope: "row" }, t(`by.${name}`)), ...known[name].map((value) => el("td", {}, value === null || value === undefined ? "" : fixed(value))),
      el("td", {}, signed(row.values[name])), el("td", { class: `won ${winner}` }, winner === "tie" ? t("tie") : policyName(state[winner])));
  });
  if (!lines.length) return el("p", { class: "note" }, t("no-scores"));
  const heads = [t("judged"), policyName(state.a), policyName(state.b), t("difference"), t("winner")];
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, ...lines)));
}

const veiled = (text) => text.replace(/\S/gu, "x"); // its shape alone: what is blurred cannot be guessed or found

function shownText(key, text, ...inside) {
  if (textsShown || revealed.has(key)) return el("div", { class: "text clear", translate: "no" }, ...inside);
  return el("div", { class: "veil" }, el("div", { class: "text", "aria-hidden": "true", translate: "no" }, veiled(text.slice(0, 600))),
    el("button", { type: "button", onclick: () => { revealed.add(key); fillReading(); } }, t("show-text")));
}

function replyCard(row, name, reply, only, query) {
  const compared = name === state.a ? " a" : name === state.b ? " b" : "";
  const card = el("article", { class: `reply${compared}`, "data-policy": name }, el("h3", {}, policyName(name)));
  if (!reply) { card.append(el("p", { class: "hidden" }, t("no-reply"))); return card; }
  const about = textOf(reply), told = [t("words", about.w)];
  if (reply[TOKENS] !== null) told.push(t("tokens", reply[TOKENS]));
  if (about.r) told.push(t("repeats", percent(about.r)));
  card.append(el("p", { class: "numbers" }, ...JUDGES.slice(0, 3).map((judge, n) => [judge, reply[SCORE + n]]).filter(([, value]) => value !== null && value !== undefined)
    .map(([judge, value]) => el("span", {}, `${t(`by.${judge}`)} `, el("strong", {}, fixed(value)))), ...told.map((text) => el("span", {}, text)), ...reply[FINDINGS].map((found) => el("span", { class: "finding" }, named("finding", found)))));
  if (about.t === null) { card.append(el("p", { class: "hidden" }, t("hidden")), el("p", {}, endOf(reply) ?? "")); return card; }
  const layers = layersOf(about, state.marks, state.marks.includes("d") && compared ? only : null, query);
  const text = about.t.trim() ? markedText(about.t, layers) : t("empty-text");
  card.append(shownText(`${row.key}-${name}`, about.t, text, " ", endOf(reply)));
  if (state.marks.includes("g") && about.g) card.append(goldOf(reply));
  return card;
}

function markControls() {
  const known = Object.entries(MARKS).filter(([key]) => key !== "g" || data.world);
  return el("fieldset", { class: "marks" }, el("legend", {}, t("marks")), ...known.map(([key, label]) => el("label", { class: `mark-${key}` },
    el("input", { type: "checkbox", id: `mark-${key}`, checked: state.marks.includes(key), onchange: () => toggleMark(key) }), " ", t(label))));
}

const toggleMark = (key) => change({ marks: Object.keys(MARKS).filter((one) => (one === key) !== state.marks.includes(one)).join("") });

function fillReading() {
  const row = openRow();
  parts.reading.replaceChildren();
  if (!row) return;
  const set = setOf(state.set), query = queryWords(state.q), prompt = data.prompts[row.case[PROMPT]];
  const [ta, tb] = [textOf(row.a).t, textOf(row.b).t];
  const only = state.marks.includes("d") && ta !== null && tb !== null ? differingWords(ta, tb) : [];
  const title = [t("case", row.case[ID]), set.trainings > 1 ? t("of-training", row.case[TRAINING] + 1) : "", row.case[SOURCE]].filter(Boolean).join(" · ");
  const order = [state.a, state.b, ...set.policies.filter((name) => name !== state.a && name !== state.b)];
  parts.reading.append(
    el("div", { class: "row head" }, el("h2", {}, title), el("span", { class: "buttons" }, el("button", { type: "button", id: "previous", onclick: () => step(-1) }, t("previous")),
      el("button", { type: "button", id: "next", onclick: () => step(1) }, t("next")), el("button", { type: "button", id: "link", onclick: copyLink }, t("link")))),
    el("section", { class: "asked", "aria-label": t("prompt") }, el("h3", {}, t("prompt")), prompt === null ? el("p", { class: "hidden" }, t("hidden"))
      : shownText(`${row.key}-prompt`, prompt, markedText(prompt, foundPlaces(prompt, query).map(([start, end]) => ({ start, end, name: "found" }))))),
    judgedTable(row), markControls());
  if (only === null) parts.reading.append(el("p", { class: "note" }, t("diff-long")));
  parts.reading.append(el("div", { class: "replies" }, ...order.map((name) => replyCard(row, name, row.case[REPLIES][set.policies.indexOf(name)], only && (name === state.a ? only[0] : only[1]), query))));
}

async function copyLink() {
  const button = document.getElementById("link");
  try { await navigator.clipboard.writeText(location.href); }
  catch { // not allowed here: the old way
    const area = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: location.href }));
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  if (!button) return;
  button.textContent = t("copied");
  setTimeout(() => { button.textContent = t("link"); }, 1500);
}
