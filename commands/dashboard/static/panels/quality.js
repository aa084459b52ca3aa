// Rules that records break: how many, how often, and when.
import { Chart } from "../chart.js";
import { breakable, category, clock, html, long, rate, Scroll, useRef, whole } from "../kit.js";

// Lines beside the pointer: those of the rules that are broken most.
const MOST_TIPS = 10;

export default function Quality({ now, trends }) {
  const rules = now.rules;
  const colors = useRef(new Map()).current;
  if (!rules) return html`<p class="empty">Reading …</p>`;
  if (!rules.length) return html`<p class="empty">No rule has been broken yet.</p>`;
  const name = (r) => `${r.entity} ${r.rule} ${r.action}`;
  // A rule keeps its colour when another one is broken for the first time.
  for (const r of rules) if (!colors.has(name(r))) colors.set(name(r), category(colors.size));
  const lines = rules.map((r) => trends.series[`rule.${name(r)}`] ?? trends.at.map(() => null));
  const smooth = lines.map((line) => line.map((_, i) => {
    const some = line.slice(Math.max(0, i - 4), i + 1).filter((v) => v !== null);
    return some.length ? some.reduce((a, b) => a + b, 0) / some.length : null;
  }));
  const tip = (i) => [[`${clock(trends.at[i])} UTC`], ...rules.map((r, n) => [`${r.entity} ${r.rule}: ${rate(smooth[n][i] ?? 0)}/s`, colors.get(name(r)), smooth[n][i]]).filter(([, , v]) => v).sort((a, b) => b[2] - a[2]).slice(0, MOST_TIPS)];
  const over = trends.at.length > 1 ? long(trends.at.at(-1) - trends.at[0]) : "";
  return html`
    ${trends.at.length > 1 && html`<${Chart} key=${rules.map(name).join()} series=${rules.map((r) => ({ label: name(r), color: colors.get(name(r)) }))} data=${[trends.at, ...smooth]}
      label=${`Broken rules a second over the last ${over}: ${rules.length} rules`} tip=${tip} format=${(n) => `${n}/s`} height=${170} />`}
    <${Scroll} label="Table of rules"><table id="rules" aria-labelledby="quality-title">
      <thead><tr><th scope="col">entity</th><th scope="col">rule</th><th scope="col">action</th><th scope="col" class="n">records</th><th scope="col" class="n" title="Over the last 10 s">a second</th></tr></thead>
      <tbody>${rules.map((r, i) => html`<tr key=${name(r)}>
        <td><span class=${`key ${colors.get(name(r))}`}>${r.entity}</span></td><td class="rule">${breakable(r.rule)}</td>
        <td class=${`action ${r.action}`}>${r.action}</td><td class="n">${whole(r.total)}</td><td class="n">${rate(smooth[i].at(-1) ?? 0)}</td></tr>`)}</tbody>
    </table></${Scroll}>
    <p class="note">Rejects are counted from the dead letter topics; defaults and warnings, since the cleaner started.</p>`;
}
