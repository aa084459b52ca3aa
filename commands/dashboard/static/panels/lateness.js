// How late sales are published, and what that did to the windows.
import { html, whole } from "../kit.js";

const Fact = ({ label, value, meaning, data }) => html`<div title=${meaning}><dt>${label}</dt><dd ...${data}>${value}</dd></div>`;

export default function Lateness({ now }) {
  const rows = (now.windows ?? []).flatMap((w) => w.rows);
  const sum = (name) => whole(rows.reduce((all, r) => all + r[name], 0));
  const delays = now.delays;
  const most = delays ? Math.max(...delays.counts, 1) : 1;
  const names = delays && [...delays.bounds_s.map((s) => `${s} s`), "longer"];
  return html`<dl class="facts">
      <${Fact} label="Revised" value=${`${sum("revised")} results`} meaning="Results of shown windows, by store, that late sales changed after they had fired" data=${{ "data-total": "revised" }} />
      <${Fact} label="Revisions" value=${sum("revisions")} meaning="How often they changed, all together" data=${{ "data-total": "revisions" }} />
      <${Fact} label="Too late" value=${now.late == null ? "–" : `${whole(now.late)} ${now.late === 1 ? "sale" : "sales"}`} meaning="Sales past the allowed lateness of a window: they are on sales.late" data=${{ "data-total": "too-late" }} />
      <${Fact} label="Allowed lateness" value=${now.stream?.allowed_lateness_s == null ? "–" : `${whole(now.stream.allowed_lateness_s)} s`} meaning="ALLOWED_LATENESS_S: how long after firing a window may be revised" />
    </dl>
    ${!delays || !delays.sampled ? html`<p class="empty">No sales yet.</p>` : html`
      <h3 id="delays-title">Delay of the newest ${whole(delays.sampled)} sales, % by seconds</h3>
      <ol class="bars" id="delays" aria-labelledby="delays-title">${delays.counts.map((n, i) => {
        const share = (100 * n) / delays.sampled;
        return html`<li key=${i} data-count=${n} title=${`${whole(n)} sales were published ${i ? `more than ${names[i - 1] === "longer" ? names[i - 2] : names[i - 1]}` : "0 s"}${i < delays.bounds_s.length ? ` to ${names[i]}` : ""} after their event time`}>
          <span class="share">${n ? (share < 0.95 ? "<1" : Math.round(share)) : ""}</span>
          <span class="column"><span style=${`height:${(100 * n) / most}%`}></span></span>
          <span class="bound">${i < delays.bounds_s.length ? delays.bounds_s[i] : "more"}</span></li>`;
      })}</ol>
      <p class="note">Publication time less event time; each bar reaches up to its bound.</p>`}`;
}
