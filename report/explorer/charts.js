// Histogram and scatter on canvas, in the colours of the style sheet; a drag over one keeps the cases in there.
const MARGIN = { left: 46, right: 10, top: 8, bottom: 30 };
const BINS = 40, NEAR = 14; // pixels around a click in which a point is looked for

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function ticks([low, high], most) {
  const rough = (high - low) / most, size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((one) => one >= rough) ?? 10 * size;
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n += 1) found.push(n * step);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// A canvas with axes: how values become places on it and places values.
class Plot {
  constructor(canvas, domainX, domainY) {
    const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    [this.width, this.height] = [Math.max(box.width, 160), Math.max(box.height, 100)];
    [canvas.width, canvas.height] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    Object.assign(this, { canvas, domainX, domainY, pen: canvas.getContext("2d") });
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.pen.clearRect(0, 0, this.width, this.height);
    this.pen.font = "11px sans-serif";
    this.inner = { width: this.width - MARGIN.left - MARGIN.right, height: this.height - MARGIN.top - MARGIN.bottom };
  }
  x(value) { return MARGIN.left + ((value - this.domainX[0]) / (this.domainX[1] - this.domainX[0])) * this.inner.width; }
  y(value) { return MARGIN.top + (1 - (value - this.domainY[0]) / (this.domainY[1] - this.domainY[0])) * this.inner.height; }
  fromX(place) { return this.domainX[0] + (Math.min(Math.max(place - MARGIN.left, 0), this.inner.width) / this.inner.width) * (this.domainX[1] - this.domainX[0]); }
  fromY(place) { return this.domainY[0] + (1 - Math.min(Math.max(place - MARGIN.top, 0), this.inner.height) / this.inner.height) * (this.domainY[1] - this.domainY[0]); }
  line(x1, y1, x2, y2, name, dash = []) {
    Object.assign(this.pen, { strokeStyle: colour(name), lineWidth: 1 });
    this.pen.setLineDash(dash);
    this.pen.beginPath();
    this.pen.moveTo(x1, y1);
    this.pen.lineTo(x2, y2);
    this.pen.stroke();
    this.pen.setLineDash([]);
  }
  axes(nameX, nameY) {
    const { pen } = this, floor = MARGIN.top + this.inner.height, right = MARGIN.left + this.inner.width;
    const [across, up] = [ticks(this.domainX, Math.max(3, this.inner.width / 55)), ticks(this.domainY, 4)];
    pen.fillStyle = colour("--soft");
    pen.textAlign = "center";
    for (const value of across.found) {
      this.line(this.x(value), MARGIN.top, this.x(value), floor, "--line");
      pen.fillText(value.toFixed(across.digits).replace("-", "−"), this.x(value), floor + 13);
    }
    pen.textAlign = "right";
    for (const value of up.found) {
      this.line(MARGIN.left, this.y(value), right, this.y(value), "--line");
      pen.fillText(value.toFixed(up.digits).replace("-", "−"), MARGIN.left - 4, this.y(value) + 4);
    }
    pen.textAlign = "center";
    pen.fillText(nameX, MARGIN.left + this.inner.width / 2, this.height - 3);
    if (!nameY) return;
    pen.save();
    pen.translate(10, MARGIN.top + this.inner.height / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(nameY, 0, 0);
    pen.restore();
  }
  shade([left, top, right, bottom]) {
    Object.assign(this.pen, { fillStyle: colour("--brush"), globalAlpha: 0.25 });
    this.pen.fillRect(left, top, right - left, bottom - top);
    this.pen.globalAlpha = 1;
    Object.assign(this.pen, { strokeStyle: colour("--link"), lineWidth: 1 });
    this.pen.strokeRect(left, top, right - left, bottom - top);
  }
  // The part of the inside that ranges leave, null where they leave all.
  boxOf(rangeX, rangeY) {
    if (!rangeX && !rangeY) return null;
    const inside = (value, domain, otherwise) => (value === null || value === undefined ? otherwise : Math.min(Math.max(value, domain[0]), domain[1]));
    const [left, right] = [0, 1].map((n) => this.x(inside(rangeX?.[n], this.domainX, this.domainX[n])));
    const [bottom, top] = [0, 1].map((n) => this.y(inside(rangeY?.[n], this.domainY, this.domainY[n])));
    return [left, top, right, bottom];
  }
}

function drawHistogram(canvas, all, kept, name, range) {
  const values = all.map((row) => row.values[name]).filter((value) => value !== null);
  const domain = extent(values), width = (domain[1] - domain[0]) / BINS;
  const binned = (rows) => {
    const counts = new Array(BINS).fill(0);
    for (const row of rows) {
      const value = row.values[name];
      if (value !== null) counts[Math.min(BINS - 1, Math.floor((value - domain[0]) / width))] += 1;
    }
    return counts;
  };
  const [whole, part] = [binned(all), binned(kept)];
  const plot = new Plot(canvas, domain, [0, Math.max(1, ...whole) * 1.05]);
  plot.axes(variableName(name), "");
  [[whole, "--faint"], [part, "--bar"]].forEach(([counts, fill]) => counts.forEach((count, n) => {
    plot.pen.fillStyle = colour(fill);
    const left = plot.x(domain[0] + n * width), right = plot.x(domain[0] + (n + 1) * width);
    plot.pen.fillRect(left, plot.y(count), Math.max(1, right - left - 1), plot.y(0) - plot.y(count));
  }));
  if (domain[0] < 0 && domain[1] > 0) plot.line(plot.x(0), MARGIN.top, plot.x(0), plot.y(0), "--ink", [4, 3]);
  const box = plot.boxOf(range, null);
  if (box) plot.shade(box);
  return plot;
}

function drawScatter(canvas, all, kept, state, open) {
  const at = (rows) => rows.map((row) => ({ row, x: row.values[state.x], y: row.values[state.y] })).filter((point) => point.x !== null && point.y !== null);
  const [whole, part] = [at(all), new Set(kept)];
  const like = state.x.slice(2) === state.y.slice(2) && state.x.includes("."); // the same of both replies: one scale
  const domains = [extent(whole.map((point) => point.x)), extent(whole.map((point) => point.y))].map(([low, high]) => [low - (high - low) * 0.03, high + (high - low) * 0.03]);
  const both = extent(domains.flat());
  const plot = new Plot(canvas, like ? both : domains[0], like ? both : domains[1]);
  plot.axes(variableName(state.x), variableName(state.y));
  if (like) plot.line(plot.x(both[0]), plot.y(both[0]), plot.x(both[1]), plot.y(both[1]), "--soft", [4, 3]);
  const dot = (point, radius, fill, alpha) => {
    Object.assign(plot.pen, { fillStyle: colour(fill), globalAlpha: alpha });
    plot.pen.beginPath();
    plot.pen.arc(plot.x(point.x), plot.y(point.y), radius, 0, 2 * Math.PI);
    plot.pen.fill();
    plot.pen.globalAlpha = 1;
  };
  const faint = colour("--faint"), strong = colour("--bar");
  for (const inside of [false, true]) {
    plot.pen.fillStyle = inside ? strong : faint;
    plot.pen.globalAlpha = inside ? 0.6 : 0.8;
    for (const point of whole) {
      if (part.has(point.row) !== inside) continue;
      plot.pen.beginPath();
      plot.pen.arc(plot.x(point.x), plot.y(point.y), inside ? 2.6 : 1.8, 0, 2 * Math.PI);
      plot.pen.fill();
    }
  }
  plot.pen.globalAlpha = 1;
  const current = whole.find((point) => point.row.key === open);
  if (current) { dot(current, 6, "--paper", 1); dot(current, 5, "--mark", 1); }
  const box = plot.boxOf(state.ranges[state.x], state.ranges[state.y]);
  if (box) plot.shade(box);
  plot.points = whole;
  return plot;
}

// A drag from one place to another, or a click, on what `plotOf()` drew there.
function brushable(canvas, plotOf, flat, onBrush, onClick) {
  let start = null;
  const place = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => { start = place(event); canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointercancel", () => { start = null; });
  canvas.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [[x1, y1], [x2, y2], plot] = [start, place(event), plotOf()];
    start = null;
    if (Math.hypot(x2 - x1, flat ? 0 : y2 - y1) < 5) { onClick(x2, y2, plot); return; }
    const rounded = (value, domain) => Number(value.toPrecision(Math.max(3, 3 + Math.ceil(Math.log10(Math.abs(value || 1) / (domain[1] - domain[0]))))));
    const [x, y] = [[x1, x2].map((one) => plot.fromX(one)), [y1, y2].map((one) => plot.fromY(one))].map((ends) => ends.sort((one, other) => one - other));
    onBrush(x.map((end) => rounded(end, plot.domainX)), flat ? null : y.map((end) => rounded(end, plot.domainY)));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y] = place(event), plot = plotOf();
    plot.redraw?.();
    const edges = flat ? [MARGIN.top, MARGIN.top + plot.inner.height] : [start[1], y].sort((one, other) => one - other);
    const sides = [start[0], x].sort((one, other) => one - other);
    plotOf().shade([sides[0], edges[0], sides[1], edges[1]]);
  });
}

function nearest(plot, x, y) {
  let [best, distance] = [null, NEAR];
  for (const point of plot.points) {
    const away = Math.hypot(plot.x(point.x) - x, plot.y(point.y) - y);
    if (away < distance) [best, distance] = [point.row, away];
  }
  return best;
}
