// Windows as whole bars: of a size, over a range, by state or by what schemas/windows.toml declares.
import { Chart } from "../chart.js";
import { category, Choice, clock, html, money, Scroll, short, useAnswer, useRef, useState, whole } from "../kit.js";

const STATES = ["open", "fired", "final"];
const MEANING = {
  open: "The watermark has not reached the window's end.", fired: "Complete; late sales may still revise it.",
  final: "The allowed lateness is over; it does not change again.",
};
const MEASURES = {
  gross_sales: "gross sales", net_sales: "net sales", transactions: "transactions", units_sold: "units sold",
  units_returned: "units returned", returns_amount: "returns", discounts: "discounts", taxes: "taxes",
};
const COUNTS = ["transactions", "units_sold", "units_returned"];
// Those of a snapshot's own windows, which are by state.
const BY_STATE = ["gross_sales", "net_sales", "transactions", "units_sold", "units_returned"];
const OTHERS = "all others";
const SHOWN = 40;
const TABLE_ROWS = 12;
// How long a row that changed is marked; the animation takes as long.
const NEW_MS = 2500;

export default function Windows({ now }) {
  const [chosen, setSize] = useState(null);
  const [last, setLast] = useState(String(SHOWN));
  const [by, setBy] = useState("state");
  const [wanted, setMeasure] = useState("gross_sales");
  const usual = (now.windows ?? []).filter(({ rows }) => rows.length);
  const groupings = now.groupings ?? [];
  const grouping = groupings.find((g) => g.name === by);
  const sizes = grouping?.sizes ?? usual.map((s) => s.size);
  const size = sizes.includes(chosen) ? chosen : sizes[0];
  const measures = grouping?.measures ?? BY_STATE;
  const measure = measures.includes(wanted) ? wanted : measures[0];
  const own = usual.find((s) => s.size === size);
  const live = !grouping && last === String(SHOWN);
  const path = usual.length && !live ? `/api/windows?size=${encodeURIComponent(size)}&last=${last}${grouping ? `&by=${by}` : ""}` : null;
  const { path: answered, data, error } = useAnswer(path, 3000);
  const revisions = useRef(new Map());
  if (!usual.length) return html`<p class="empty" id="no-windows">${now.problems.warehouse ? "Postgres does not answer." : "No windows yet: the first sale opens one."}</p>`;
  const rows = live ? own.rows : answered === path ? data : null;
  return html`<form class="controls">
      <${Choice} label="Size" name="size" value=${size} onChange=${setSize} options=${sizes.map((s) => [s, s])} />
      <${Choice} label="Range" name="last" value=${last} onChange=${setLast} options=${[20, SHOWN, 120, 240].map((n) => [String(n), `${n} windows`])} />
      <${Choice} label="Group by" name="by" value=${grouping ? by : "state"} onChange=${setBy} options=${["state", ...groupings.map((g) => g.name)].map((name) => [name, name])} />
      <${Choice} label="Show" name="measure" value=${measure} onChange=${setMeasure} options=${measures.map((m) => [m, MEASURES[m]])} />
    </form>
    ${error && html`<p class="failed" role="alert">${error}</p>`}
    ${rows?.length ? html`<${Bars} rows=${rows} by=${grouping ? by : "state"} measure=${measure} size=${size} />` : html`<p class="empty chart">${rows ? "No windows yet." : "Reading …"}</p>`}
    ${own && html`<${Newest} key=${size} size=${size} rows=${own.rows} revisions=${revisions.current} />`}`;
}

function Bars({ rows, by, measure, size }) {
  const groups = by === "state" ? STATES : [...new Set(rows.map((r) => r.name ?? OTHERS))];
  const colors = by === "state" ? STATES : groups.map((_, i) => category(i));
  const starts = [...new Set(rows.map((r) => r.start))];
  const at = new Map(starts.map((s, i) => [s, i]));
  const columns = groups.map(() => new Array(starts.length).fill(0));
  const found = starts.map(() => []);
  for (const r of rows) {
    const i = at.get(r.start);
    columns[groups.indexOf(by === "state" ? r.state : r.name ?? OTHERS)][i] += r[measure];
    found[i].push(r);
  }
  // Each group stands on those before it; the tallest is drawn first.
  const tops = columns.map((_, g) => starts.map((_, i) => columns.slice(0, g + 1).reduce((sum, c) => sum + c[i], 0)));
  const returns = starts.map((_, i) => -found[i].reduce((sum, r) => sum + (r.returns_amount ?? 0), 0));
  const width = rows[0].end - rows[0].start;
  const step = starts.length > 1 ? Math.min(...starts.slice(1).map((s, i) => s - starts[i])) : width;
  const order = groups.map((_, g) => groups.length - 1 - g);
  const sums = measure === "gross_sales" && by === "state";
  const revised = starts.map((_, i) => (by === "state" && found[i][0].revisions ? tops.at(-1)[i] : null));
  const series = [
    ...order.map((g) => ({ label: groups[g], color: colors[g], bars: true })),
    ...(sums ? [{ label: "returns", color: "returns", bars: true }] : []),
    ...(by === "state" ? [{ label: "revised", color: "revised", marks: true }] : []),
  ];
  const written = (n) => (COUNTS.includes(measure) ? whole(n) : money(n));
  const tip = (i) => {
    const end = starts[i] + width;
    const head = [`${clock(starts[i])} – ${clock(end).slice(-8)} UTC`];
    if (by !== "state") return [head, ...groups.map((name, g) => [`${name}: ${written(columns[g][i])}`, colors[g]]).filter((_, g) => columns[g][i]).reverse(), [`all: ${written(tops.at(-1)[i])}`]];
    const r = found[i][0];
    return [head, [`${r.state}, ${r.revisions} revisions`, r.state], [`gross ${money(r.gross_sales)}`], [`returns ${money(r.returns_amount)}`], [`net ${money(r.net_sales)}`],
      [`${whole(r.transactions)} sales, ${whole(r.units_sold)} units`]];
  };
  const counts = by === "state" ? STATES.map((s) => `${rows.filter((r) => r.state === s).length} ${s}`).join(", ") : `${groups.length} groups`;
  return html`<p class="legend">
      ${groups.map((g, i) => html`<span class=${`key ${colors[i]}`} title=${MEANING[g] ?? g}><bdi>${g}</bdi></span>`)}
      ${sums && html`<span class="key returns" title="Amounts of goods that came back, below the axis">returns</span>`}
      ${by === "state" && html`<span class="key ring revised" title="Late sales changed it after it had fired">revised</span>`}</p>
    <${Chart} key=${`${by} ${measure} ${groups.length}`} series=${series} data=${[starts, ...order.map((g) => tops[g]), ...(sums ? [returns] : []), ...(by === "state" ? [revised] : [])]}
      label=${`Windows of ${size}, ${MEASURES[measure]}: ${counts}; the newest begins at ${clock(starts.at(-1))}`}
      tip=${tip} format=${short} range=${(least, most) => [least - step * 0.6, Math.max(most, least + step * 8) + step * 0.6]} height=${260} />`;
}

function Newest({ size, rows, revisions }) {
  const heads = ["start", "state", "sales", "gross", "returns", "net", "revisions"];
  return html`<details data-size=${size}><summary>The newest ${TABLE_ROWS} windows of ${size} as a table</summary>
    <${Scroll} label=${`Table of windows of ${size}`}><table aria-label=${`Newest windows of ${size}`}>
      <thead><tr>${heads.map((h, i) => html`<th scope="col" class=${i > 1 ? "n" : ""}>${h}</th>`)}</tr></thead>
      <tbody>${rows.slice(-TABLE_ROWS).reverse().map((r) => {
        const [name, version] = [`${size} ${r.start}`, `${r.state} ${r.revisions}`];
        const before = revisions.get(name);
        if (revisions.size > 1000) revisions.clear();
        if (before?.version !== version) revisions.set(name, { version, at: before ? Date.now() : 0 });
        const fresh = Date.now() - revisions.get(name).at < NEW_MS;
        return html`<tr key=${`${r.start} ${version}`} class=${fresh ? "new" : ""} data-start=${r.start}>
          <td>${clock(r.start)}</td><td><span class=${`key ${r.state}`}>${r.state}</span></td><td class="n">${whole(r.transactions)}</td>
          <td class="n">${money(r.gross_sales)}</td><td class="n">${money(r.returns_amount)}</td><td class="n">${money(r.net_sales)}</td><td class="n">${whole(r.revisions)}</td></tr>`;
      })}</tbody></table></${Scroll}></details>`;
}
