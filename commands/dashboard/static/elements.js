// The elements that every panel is built of. Text goes in as text, never as markup.
export const one = (selector) => document.querySelector(selector);

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

export const row = (...cells) => el("tr", {}, ...cells);
export const cell = (content, kind) => el("td", { class: kind }, content);
export const number = (n) => cell(whole(n), "n");

export function say(selector, text) {
  for (const place of document.querySelectorAll(selector)) if (place.textContent !== text) place.textContent = text;
}

export const whole = (n) => Number(n).toLocaleString("en");
export const money = (n) => Number(n).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
export const rate = (n) => `${n < 10 ? n.toFixed(1) : whole(Math.round(n))}/s`;
/** The time in UTC, with its date unless that is today. */
export const clock = (seconds) => {
  const [day, time] = new Date(seconds * 1000).toISOString().slice(0, 19).split("T");
  return day === new Date().toISOString().slice(0, 10) ? time : `${day} ${time}`;
};
export const moment = (iso) => (iso == null ? "now" : iso.slice(0, 19).replace("T", " "));
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export async function ask(path) {
  const answer = await fetch(path);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

/** A chart that fills `place`, is redrawn when its size or the colours change, and has a label for screen readers. */
export class Chart {
  constructor(place, options) {
    this.place = place;
    this.options = options;
    this.data = null;
    place.setAttribute("role", "img");
    new ResizeObserver(() => this.resize()).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  resize() {
    if (this.plot && this.place.clientWidth && this.plot.width !== this.place.clientWidth) {
      this.plot.setSize({ width: this.place.clientWidth, height: 220 });
    }
  }

  draw() {
    if (!this.data || !this.place.clientWidth) return;
    this.plot?.destroy();
    this.plot = new uPlot({ width: this.place.clientWidth, height: 220, ...this.options() }, this.data, this.place);
  }

  show(data, label) {
    const same = this.plot && data.length === this.data.length;
    this.data = data;
    this.place.setAttribute("aria-label", label);
    if (same) this.plot.setData(data);
    else this.draw();
  }
}

export const times = () => axis({ values: (_, ticks) => ticks.map((at) => clock(at).replace(" ", "\n")), space: 80 });
export const axis = (more = {}) => ({
  stroke: color("soft"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line") }, ...more,
});
