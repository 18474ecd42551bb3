// A reply as elements: its repeated parts, gold by sentence, the words that the other reply lacks, what was searched for.
// Texts reach the page as text nodes alone.
const WORD = /[\u3400-\u9fff]|[^\s\u3400-\u9fff]+/g;
const LARGEST = 6e6; // cells of the table that compares two texts

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value === "boolean") made[name] = value;
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const wordPlaces = (text) => Array.from(text.matchAll(WORD), (found) => ({ word: found[0], start: found.index, end: found.index + found[0].length }));

// Places of the words of each text that a longest common subsequence leaves out; null where the texts are too long.
function differingWords(first, second) {
  const [a, b] = [wordPlaces(first), wordPlaces(second)];
  let head = 0, tail = 0;
  while (head < Math.min(a.length, b.length) && a[head].word === b[head].word) head += 1;
  while (tail < Math.min(a.length, b.length) - head && a.at(-1 - tail).word === b.at(-1 - tail).word) tail += 1;
  const rows = a.length - head - tail, columns = b.length - head - tail, width = columns + 1;
  if (rows * columns > LARGEST) return null;
  const longest = new Uint16Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i -= 1) {
    for (let j = columns - 1; j >= 0; j -= 1) {
      longest[i * width + j] = a[head + i].word === b[head + j].word
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const only = [[], []];
  let [i, j] = [0, 0];
  while (i < rows || j < columns) {
    if (i < rows && j < columns && a[head + i].word === b[head + j].word) { i += 1; j += 1; }
    else if (j >= columns || (i < rows && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) only[0].push(a[head + i++]);
    else only[1].push(b[head + j++]);
  }
  return only.map((words) => joined(words.map((word) => [word.start, word.end])));
}

// Neighbouring places as one, where at most a blank parts them.
function joined(places) {
  const found = [];
  for (const [start, end] of places) {
    if (found.length && start <= found.at(-1)[1] + 1) found.at(-1)[1] = end;
    else found.push([start, end]);
  }
  return found;
}

function foundPlaces(text, words) {
  const literal = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return literal.length ? Array.from(text.matchAll(new RegExp(literal.join("|"), "giu")), (at) => [at.index, at.index + at[0].length]) : [];
}

const signed = (value, digits = 2) => {
  const text = Math.abs(value).toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return (value < 0 && Number(text) ? "−" : value > 0 && Number(text) ? "+" : "") + text;
};
const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
const sumOf = (points) => points.reduce((sum, [, value]) => sum + value, 0);
const toldPoints = (points) => points.map(([part, value]) => `${t(`part.${data.parts[part]}`)} ${signed(value)}`).join(t("comma"));

// A text cut where any mark begins or ends.
function markedText(text, layers) {
  const ends = new Set([0, text.length]);
  layers.forEach(({ start, end }) => { ends.add(start); ends.add(end); });
  const places = [...ends].sort((one, other) => one - other);
  const out = document.createDocumentFragment();
  places.slice(0, -1).forEach((start, n) => {
    const end = places[n + 1], here = layers.filter((layer) => layer.start <= start && layer.end >= end);
    const piece = document.createTextNode(text.slice(start, end));
    if (!here.length) out.append(piece);
    else {
      const titles = here.map((layer) => layer.title).filter(Boolean);
      out.append(el(here.some((layer) => layer.name === "found") ? "mark" : "span", { class: here.map((layer) => layer.name).join(" "), title: titles[0] }, piece));
    }
    for (const layer of here) if (layer.end === end && layer.after) out.append(layer.after());
  });
  return out;
}

function layersOf(row, marks, only, query) {
  const layers = [];
  if (marks.includes("g")) {
    for (const [start, end, kind, points] of row.g ?? []) {
      const sum = sumOf(points), name = sum > 0 ? "plus" : sum < 0 ? "minus" : "zero";
      const told = t(`kind.${kind}`) + (points.length ? t("colon") + toldPoints(points) : "");
      layers.push({ start, end, name: `gold ${name}`, title: told, after: () => el("span", { class: `points ${name}`, title: told }, signed(sum)) });
    }
  }
  if (marks.includes("r")) layers.push(...row.s.map(([start, end]) => ({ start, end, name: "again", title: t("mark-repeats") })));
  layers.push(...(only ?? []).map(([start, end]) => ({ start, end, name: "only" })));
  layers.push(...foundPlaces(row.t, query).map(([start, end]) => ({ start, end, name: "found" })));
  return layers;
}

// What stands behind the text: the token at which the reward model read its score.
function endOf(reply) {
  if (reply[SCORE] === null) return null;
  const cut = reply[FINISHED] === false, limited = data.limit && reply[TOKENS] >= data.limit;
  const told = !data.end ? t("end-unknown") : cut ? t("end-added") : limited ? t("end-limit", data.limit - 1) : t("end-read");
  return el("span", { class: "end" }, el("code", {}, data.end ?? "■"), " ", told, t("colon"), el("strong", {}, fixed(reply[SCORE])));
}

function goldOf(reply) {
  const row = textOf(reply), parts = new Map();
  for (const [part, value] of [...(row.g ?? []).flatMap((sentence) => sentence[3]), ...(row.x ?? [])]) parts.set(part, (parts.get(part) ?? 0) + value);
  const points = [...parts].filter(([, value]) => Math.abs(value) > 1e-6).sort((one, other) => one[0] - other[0]);
  const sum = sumOf(points);
  const whole = row.x?.length ? ` ${t("open")}${t("gold-whole", toldPoints(row.x))}${t("close-bracket")}` : "";
  return el("p", { class: "sum" }, `${t("gold-sum", fixed(sum / data.scale), signed(sum), data.scale)} ${toldPoints(points) || "0"}${whole}`);
}
