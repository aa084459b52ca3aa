// A chart and a table for each window size.
import { axis, cell, Chart, clock, color, el, money, number, one, row, times, whole } from "./elements.js";

const STATES = ["open", "fired", "final"];
const TABLE_ROWS = 12;
const panels = new Map();

export function windows(now) {
  if (!now.windows) return;
  const shown = now.windows.filter(({ rows }) => rows.length);
  if (shown.length) one("#window-charts .empty")?.remove();
  for (const { size, rows } of shown) {
    if (!panels.has(size)) panels.set(size, panel(size));
    panels.get(size)(rows);
  }
}

function panel(size) {
  const place = el("div", { class: "chart" });
  const body = el("tbody");
  const heads = ["start", "state", "transactions", "gross", "returns", "net", "revisions"];
  const table = el("table", { "aria-label": `Newest windows of ${size}` },
    el("thead", {}, row(...heads.map((h, i) => el("th", { scope: "col", class: i > 1 ? "n" : "" }, h)))), body);
  one("#window-charts").append(el("div", { "data-size": size }, el("h3", {}, `Windows of ${size}: gross sales`), place,
    el("details", {}, el("summary", {}, `The newest ${TABLE_ROWS} windows of ${size} as a table`),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table of windows of ${size}` }, table))));
  const chart = new Chart(place, options);
  const before = new Map();

  return (rows) => {
    const starts = rows.map((r) => r.start);
    const bars = STATES.map((state) => rows.map((r) => (r.state === state ? r.gross_sales : null)));
    const returns = rows.map((r) => -r.returns_amount);
    const revised = rows.map((r) => (r.revisions ? r.gross_sales : null));
    const last = rows.at(-1);
    const counts = STATES.map((s) => `${rows.filter((r) => r.state === s).length} ${s}`).join(", ");
    chart.show([starts, ...bars, returns, revised],
      `Windows of ${size}: ${counts}; the newest begins at ${clock(last.start)} with ${money(last.gross_sales)} gross`);
    body.replaceChildren(...rows.slice(-TABLE_ROWS).reverse().map((r) => {
      const version = `${r.state} ${r.revisions}`;
      const fresh = before.has(r.start) && before.get(r.start) !== version;
      before.set(r.start, version);
      const made = row(cell(clock(r.start)), cell(r.state), number(r.transactions), cell(money(r.gross_sales), "n"),
        cell(money(r.returns_amount), "n"), cell(money(r.net_sales), "n"), cell(whole(r.revisions), "n"));
      made.dataset.start = r.start;
      if (fresh) made.className = "new";
      return made;
    }));
  };
}

function options() {
  const bars = uPlot.paths.bars({ size: [0.8, 60] });
  const series = (label, name) => ({ label, stroke: color(name), fill: color(name), paths: bars, points: { show: false } });
  return {
    legend: { show: false },
    cursor: { show: false },
    axes: [times(), axis({ size: 85, values: (_, ticks) => ticks.map(whole) })],
    series: [{}, ...STATES.map((s) => series(s, s)), series("returns", "returns"),
      { label: "revised", stroke: color("revised"), paths: () => null, points: { show: true, size: 9, width: 2, fill: color("panel") } }],
  };
}
