// The interaction of the report: a heading sorts its table, a chart shows the point nearest to the
// pointer, and rows and curves of the same trials are highlighted together. The page is complete without it.
"use strict";

// Negative if `one` comes first. Texts and empty cells stay at the end in both directions.
function order(one, two, down) {
  const place = value => value === "" ? 2 : typeof value === "string" ? 1 : 0;
  if (place(one) !== place(two)) return place(one) - place(two);
  const ahead = place(one) ? one.localeCompare(two, undefined, { numeric: true }) : one - two;
  return down ? -ahead : ahead;
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0], first = [...body.rows];
  const value = cell => "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent.trim();
  heads.forEach((head, column) => {
    const button = make("button", head.textContent);
    button.type = "button";
    button.title = "sort: up, down, as before";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.ariaSort];
      const sort = next === undefined ? "ascending" : next;
      heads.forEach(other => other.ariaSort = null);
      head.ariaSort = sort;
      const ordered = (one, two) => order(value(one.cells[column]), value(two.cells[column]), sort === "descending");
      body.append(...(sort ? [...first].sort(ordered) : first));
    });
  });
}

// Inserted as text, never as HTML.
function make(tag, text, parent) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function shape(tag, attributes, parent) {
  const element = document.createElementNS(parent.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return parent.appendChild(element);
}

const rows = [], charts = [];
const share = (some, others) => some.some(one => others.includes(one));

// Highlights the rows and curves of trials; in the chart under the pointer only the rows.
function light(trials, but) {
  for (const row of rows) row.element.classList.toggle("on", share(row.trials, trials));
  for (const chart of charts) if (chart !== but) chart.light(trials);
}

class Chart {
  // The largest distance from the pointer to a point that it selects, in units of the picture.
  static reach = 600;

  constructor(figure) {
    const readings = JSON.parse(figure.dataset.readings);
    Object.assign(this, readings, { figure, svg: figure.querySelector("svg"), off: new Set(), shown: null });
    this.points = this.series.flatMap((own, series) => own.x.map((x, at) => ({ own, series, at,
      left: own.left[at], top: own.top[at], trials: own.of ? own.of[at] : own.trials })));
    this.rings = shape("g", { fill: "none", "stroke-width": 22, "pointer-events": "none" }, this.svg);
    this.tip = make("output", "", figure);
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.svg.setAttribute("role", "group");
    this.svg.setAttribute("tabindex", 0);
    const near = event => {
      const spot = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
      this.show(this.nearest(spot.x, spot.y));
    };
    this.svg.addEventListener("pointermove", near);
    this.svg.addEventListener("pointerdown", near);
    // Lifting a finger fires a leave event, which must not hide the tooltip.
    this.svg.addEventListener("pointerleave", event => event.pointerType === "touch" || this.show(null));
    this.svg.addEventListener("blur", () => this.show(null));
    this.svg.addEventListener("keydown", event => this.press(event));
    this.svg.querySelectorAll("g[data-name]").forEach(name => this.named(name));
  }

  parts(series) {
    return this.svg.querySelectorAll(`g[data-series="${series}"]`);
  }

  // A click on the name of a series shows or hides it.
  named(name) {
    const series = Number(name.dataset.series), { x, y, width, height } = name.querySelector("text").getBBox();
    shape("rect", { x, y, width, height, fill: "transparent" }, name);
    for (const [key, value] of Object.entries({ tabindex: 0, role: "button", "aria-pressed": true }))
      name.setAttribute(key, value);
    const toggle = event => {
      event.preventDefault();
      event.stopPropagation();
      const off = !this.off.delete(series);
      if (off) this.off.add(series);
      this.parts(series).forEach(part => part.classList.toggle("off", off));
      name.setAttribute("aria-pressed", !off);
      this.show(null);
    };
    name.addEventListener("click", toggle);
    name.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") toggle(event); });
    name.addEventListener("pointermove", event => {
      event.stopPropagation();
      this.show(null);
      if (!this.off.has(series)) this.fade(new Set([series]));
    });
  }

  seen() {
    return this.points.filter(point => !this.off.has(point.series));
  }

  nearest(left, top, among = this.seen(), reach = Chart.reach) {
    const far = point => Math.hypot(point.left - left, point.top - top);
    const found = among.reduce((best, point) => best && far(best) <= far(point) ? best : point, null);
    return found && far(found) <= reach ? found : null;
  }

  // The left and right keys move along a series, up and down to another series.
  press(event) {
    const from = this.shown, along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.key === "Escape") return this.show(null);
    if (event.target !== this.svg || !(along || across)) return;
    event.preventDefault();
    if (!from) return this.show(this.seen()[0]);
    const own = point => point.series === from.series, all = this.seen();
    const next = along
      ? all.filter(point => own(point) && (point.left - from.left) * along > 0)
      : all.filter(point => !own(point) && (point.top - from.top) * across > 0);
    this.show(this.nearest(from.left, from.top, next, Infinity) || from);
  }

  show(point) {
    if (point === this.shown && point) return;
    this.shown = point || null;
    this.tip.hidden = !point;
    this.fade(point ? new Set([point.series]) : null);
    this.ring(point ? [point] : []);
    light(point ? point.trials : [], this);
    if (point) this.tell(point);
  }

  // All digits of every number.
  tell({ own, at, left, top, series }) {
    const name = (this.names.find(([place]) => place === own.x[at]) || [])[1];
    const lines = [`${this.x || "x"} ${name ?? own.x[at]}`, `${this.y || "y"} ${own.y[at]}`];
    if (own.low && own.low[at] !== null) lines.push(`from ${own.low[at]}`, `to ${own.high[at]}`);
    if (own.logged && own.logged[at] !== null) lines.push(`as logged ${own.logged[at]}`);
    if (at >= own.means) lines.push("a single run");
    this.tip.replaceChildren();
    if (own.name) {
      const head = make("b", "", this.tip);
      head.style.borderLeftColor = own.colour;
      make("span", `${this.key} ${own.name}`.trim(), head);
    }
    this.tip.append(lines.join("\n"));
    const box = this.svg.viewBox.baseVal, scale = this.svg.clientWidth / box.width, gap = 12;
    // Towards the middle of the picture, and within its edges.
    const beside = (at, size, tip) => at > size / 2 ? at * scale - tip - gap : at * scale + gap;
    const inside = Math.min(beside(left, box.width, this.tip.offsetWidth), this.svg.clientWidth - this.tip.offsetWidth);
    this.tip.style.left = `${Math.max(0, inside)}px`;
    this.tip.style.top = `${beside(top, box.height, this.tip.offsetHeight)}px`;
  }

  light(trials) {
    const lit = this.series.flatMap((own, series) => share(own.trials, trials) ? [series] : []);
    this.fade(lit.length ? new Set(lit) : null);
    this.ring(this.seen().filter(point => point.own.of && share(point.trials, trials)));
  }

  // Dims the other series.
  fade(series) {
    this.svg.classList.toggle("lit", series !== null);
    this.svg.querySelectorAll("g[data-series]").forEach(part =>
      part.classList.toggle("on", series !== null && series.has(Number(part.dataset.series))));
  }

  ring(points) {
    this.rings.replaceChildren();
    for (const { left, top, own } of points)
      shape("circle", { cx: left, cy: top, r: 75, stroke: own.colour }, this.rings);
  }
}

document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll("figure[data-readings]").forEach(figure => charts.push(new Chart(figure)));
document.querySelectorAll("tr[data-trials]").forEach(element => {
  const trials = element.dataset.trials.split(" ").map(Number);
  rows.push({ element, trials });
  element.addEventListener("pointerenter", () => light(trials));
  element.addEventListener("pointerleave", () => light([]));
});
if (charts.length)
  make("p", "Point at a chart for its numbers, at a row for its curves; a name hides its curve, a heading sorts.",
    document.querySelector("header")).className = "soft hint";
