// Partitions and the groups that read them, as a table.
import { Choice, html, Scroll, useAnswer, useState, whole } from "../kit.js";

const GROUPS = ["cleaner", "scd_merger", "aggregator"];

export default function Partitions({ now }) {
  const [group, setGroup] = useState("");
  const { data, error } = useAnswer("/api/partitions", 5000);
  const rows = (data?.rows ?? []).filter((r) => !group || r.group === group);
  const most = Math.max(1, ...rows.map(left));
  return html`<form class="controls"><${Choice} label="Group" name="group" value=${group} onChange=${setGroup} options=${[["", "all"], ...GROUPS.map((g) => [g, g])]} /></form>
    ${error && html`<p class="failed" role="alert">${error}</p>`}
    <div class="scroll tall" tabindex="0" role="region" aria-label="Table of partitions"><table id="partition-list" aria-labelledby="partitions-title">
      <thead><tr><th scope="col">group</th><th scope="col">topic</th><th scope="col" class="n">partition</th>
        <th scope="col" class="n" title="The first offset that the topic still has">first</th><th scope="col" class="n" title="The offset that the group reads next">position</th>
        <th scope="col" class="n" title="The offset that the next record gets">end</th><th scope="col" class="n" title="End less position, in offsets; markers of transactions count">left</th><th scope="col"><span class="hidden">share</span></th></tr></thead>
      <tbody>${rows.map((r) => html`<tr key=${`${r.topic} ${r.partition}`}><td>${r.group}</td><td class="code">${r.topic}</td><td class="n">${r.partition}</td><td class="n">${whole(r.first)}</td>
        <td class="n">${r.position == null ? "none" : whole(r.position)}</td><td class="n">${whole(r.end)}</td><td class="n">${whole(left(r))}</td>
        <td class="meter" aria-hidden="true"><span style=${`width:${(100 * left(r)) / most}%`}></span></td></tr>`)}</tbody></table></div>
    ${data && data.total > data.rows.length && html`<p class="note">${`There are ${whole(data.total)} partitions. Those of each group with the most left are shown.`}</p>`}
    <p class="note">Positions of merger and aggregator are those in Postgres, committed with the results; that of the cleaner is in Kafka.</p>`;
}

const left = (r) => Math.max(0, r.end - (r.position ?? r.first));
