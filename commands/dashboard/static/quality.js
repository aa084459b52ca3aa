// Broken rules, their rates, and the newest dead letters.
import { ask, axis, cell, Chart, clock, color, el, number, one, row, times, whole } from "./elements.js";

const KEPT_S = 480;
const COLORS = ["final", "returns", "fired", "revised", "good", "open", "accent", "bad"];
const samples = [];
let names = [];
let letters = -1;
const chart = new Chart(one("#rates"), options);

const title = (r) => `${r.entity} ${r.rule} (${r.action})`;

export function past(older) {
  samples.splice(0, samples.length, ...older);
}

export function quality(now) {
  if (!now.rules) return;
  if (!samples.length || now.at - samples.at(-1).at >= 2) samples.push({ at: now.at, rules: now.rules });
  while (samples.length && now.at - samples[0].at > KEPT_S) samples.shift();
  const body = one("#rules tbody");
  body.replaceChildren(...now.rules.map((r) => row(cell(r.entity), cell(r.rule), cell(r.action), number(r.total))));
  if (!now.rules.length) body.append(row(el("td", { colspan: 4 }, "No rule has been broken yet.")));
  draw(now.rules);
  if (now.letters && now.letters.total !== letters) show(now.letters.total);
}

function draw(rules) {
  if (samples.length < 2) return;
  const known = rules.map(title);
  if (known.join() !== names.join()) {
    names = known;
    chart.data = [];
  }
  const totals = samples.map((s) => new Map(s.rules.map((r) => [title(r), r.total])));
  const per_s = (name, i) => {
    // A counter that goes back belongs to a restarted cleaner.
    const grown = (totals[i].get(name) ?? 0) - (totals[i - 1].get(name) ?? 0);
    return Math.max(0, grown) / (samples[i].at - samples[i - 1].at);
  };
  const ends = samples.slice(1).map((s) => s.at);
  const lines = names.map((name) => ends.map((_, i) => per_s(name, i + 1)));
  chart.show([ends, ...lines], `Broken rules a second over the last ${Math.round((ends.at(-1) - ends[0]) / 60)} minutes: ${names.length} rules`);
}

function options() {
  return {
    cursor: { show: false },
    legend: { show: true, live: false },
    axes: [times(), axis({ size: 45 })],
    series: [{}, ...names.map((label, i) => ({ label, stroke: color(COLORS[i % COLORS.length]), width: 1.5, dash: i < COLORS.length ? [] : [6, 4] }))],
  };
}

/** Rows by the dead letter's position: a row that is open or has the focus stays the same element. */
const rows = new Map();
let asking = false;

async function show(total) {
  if (asking) return;
  asking = true;
  const entity = one("#letters-filter select").value;
  const body = one("#letters tbody");
  try {
    const newest = await ask(`/api/letters?limit=20${entity ? `&entity=${entity}` : ""}`);
    for (const at of rows.keys()) if (!newest.some((x) => x.letter === at)) rows.delete(at);
    for (const x of newest) if (!rows.has(x.letter)) rows.set(x.letter, letter(x));
    place(body, newest.length ? newest.map((x) => rows.get(x.letter)) : [row(el("td", { colspan: 4 }, "No dead letters."))]);
    if (total !== undefined) letters = total;
  } catch (error) {
    rows.clear();
    body.replaceChildren(row(el("td", { colspan: 4 }, error.message)));
  } finally {
    asking = false;
  }
  if (one("#letters-filter select").value !== entity) show();
}

/** Rows that are there already are not touched: a moved element loses the focus. */
function place(body, wanted) {
  for (const old of [...body.children]) if (!wanted.includes(old)) old.remove();
  wanted.forEach((made, i) => body.children[i] === made || body.insertBefore(made, body.children[i] ?? null));
}

function letter(x) {
  const time = x.time === null ? "" : clock(Date.parse(x.time) / 1000);
  return row(cell(time), cell(x.origin ?? "unknown", "code"), cell(x.rules.join(", ")), details(x));
}

const SHOWN_TEXT = 8192;

function details(x) {
  const left = x.value_bytes - (x.value_hex?.length ?? 0) / 2;
  const hex = `${whole(x.value_bytes)} bytes: ${x.value_hex}${left ? ` … and ${whole(left)} bytes more` : ""}`;
  const text = x.value ? JSON.stringify(x.value, null, 1) : "Not Avro of a registered schema.";
  const shown = text.length > SHOWN_TEXT ? `${text.slice(0, SHOWN_TEXT)} … and ${whole(text.length - SHOWN_TEXT)} characters more` : text;
  return cell(el("details", { "data-letter": x.letter },
    el("summary", {}, x.message ?? "No message"),
    el("pre", {}, shown),
    el("pre", {}, `key ${x.key ?? "null"}\n${x.value_hex == null ? "no value" : hex}`)));
}

one("#letters-filter").addEventListener("change", () => show());
