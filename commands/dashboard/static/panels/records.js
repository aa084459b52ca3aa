// Records of any topic, decoded: the newest ones, those of a key, or those from an offset on.
import { Choice, clock, html, pretty, useAnswer, useState, whole } from "../kit.js";

const of = (suffix) => ["sales", "customers", "products", "stores"].map((e) => `${e}.${suffix}`);
const TOPICS = [...of("raw"), ...of("clean"), ...of("dlq"), "sales.late", "sales.windows", "sales.watermarks", "generator.faults", "cleaner.rules", "generator.state"];

export default function Records() {
  const [topic, setTopic] = useState("sales.clean");
  const [asked, setAsked] = useState({ query: "limit=20", n: 0 });
  const { data, error } = useAnswer(`/api/records/${topic}?${asked.query}`, 0, `${topic} ${asked.n}`);
  const find = (event) => {
    event.preventDefault();
    const given = [...new FormData(event.target)].filter(([name, value]) => name !== "topic" && value.trim());
    setAsked((was) => ({ query: new URLSearchParams([["limit", "20"], ...given]).toString(), n: was.n + 1 }));
  };
  return html`<form class="controls" role="search" aria-label="Records" onSubmit=${find}>
      <${Choice} label="Topic" name="topic" value=${topic} onChange=${setTopic} options=${TOPICS.map((t) => [t, t])} />
      <label>Key <input name="key" size="8" maxlength="100" autocomplete="off" placeholder="any" /></label>
      <label>Partition <input name="partition" size="4" inputmode="numeric" autocomplete="off" placeholder="all" /></label>
      <label>From offset <input name="offset" size="8" inputmode="numeric" autocomplete="off" placeholder="newest" /></label>
      <button>Find</button>
    </form>
    ${error && html`<p class="failed" role="alert">${error}</p>`}
    <div class="scroll tall" tabindex="0" role="region" aria-label="Records of the topic"><table id="record-list" aria-label="Records of the topic">
      <thead><tr><th scope="col" title="partition @ offset">place</th><th scope="col">time</th><th scope="col">key</th><th scope="col">value</th></tr></thead>
      <tbody>${(data?.records ?? []).map((r) => html`<tr key=${`${topic} ${r.partition}@${r.offset}`}>
        <td class="code">${r.partition}@${r.offset}</td>
        <td>${typeof r.timestamp === "string" ? clock(Date.parse(r.timestamp) / 1000) : r.timestamp}</td><td class="code">${text(r.key)}</td>
        <td class="code wide"><details><summary>${summary(r.value)}</summary><pre>${pretty(r.value, r.cut?.value)}</pre>
          ${Object.keys(r.headers).length > 0 && html`<pre>${pretty(r.headers, r.cut?.headers)}</pre>`}</details></td></tr>`)}
        ${data && !data.records.length && html`<tr><td colspan="4">${data.searched ? "No such record." : "The topic has no records."}</td></tr>`}</tbody></table></div>
    ${data && html`<p class="note">${whole(data.searched)} offsets were searched${data.whole ? ", all that the topic has" : "; a search reads the newest 20,000 of a partition, or those from the offset on"}.</p>`}`;
}

const text = (value) => (value === null ? "null" : typeof value === "string" ? value : JSON.stringify(value));
const summary = (value) => {
  if (value === null) return "null: a delete";
  if (typeof value !== "object" || value.base64) return text(value).slice(0, 120);
  return Object.entries(value).map(([name, v]) => `${name} ${text(v)}`).join(" · ").slice(0, 160);
};
