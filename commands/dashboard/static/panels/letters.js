// The newest dead letters, by entity and rule, and the command that publishes them again.
import { breakable, Choice, clock, Command, html, pretty, useAnswer, useState, whole } from "../kit.js";

const ENTITIES = ["sales", "customers", "products", "stores"];
const MOST_RULES = 4;

export default function Letters({ now }) {
  const [entity, setEntity] = useState("");
  const [rule, setRule] = useState("");
  const [limit, setLimit] = useState("20");
  const total = now.letters?.total;
  const rejecting = [...new Set((now.rules ?? []).filter((r) => r.action === "reject" && (!entity || r.entity === entity)).map((r) => r.rule))];
  const asked = new URLSearchParams({ limit, ...(entity && { entity }), ...(rule && { rule }) });
  const { data, error } = useAnswer(`/api/letters?${asked}`, 0, total);
  const filters = `${entity && ` --entity ${entity}`}${rule && ` --rule ${quoted(rule)}`}`;
  return html`<form class="controls" id="letters-filter">
      <${Choice} label="Entity" name="entity" value=${entity} onChange=${setEntity} options=${[["", "all"], ...ENTITIES.map((e) => [e, e])]} />
      <${Choice} label="Rule" name="rule" value=${rule} onChange=${setRule} options=${[["", "all"], ...rejecting.map((r) => [r, r])]} />
      <${Choice} label="Show" name="limit" value=${limit} onChange=${setLimit} options=${[["20", "20"], ["100", "100"], ["200", "200"]]} />
    </form>
    ${error && html`<p class="failed" role="alert">${error}</p>`}
    <div class="scroll tall" tabindex="0" role="region" aria-label="Newest dead letters"><table id="letter-list" aria-label="Newest dead letters">
      <thead><tr><th scope="col">time</th><th scope="col">record</th><th scope="col">rules</th></tr></thead>
      <tbody>${(data ?? []).map((x) => html`<${Letter} key=${x.letter} x=${x} />`)}
        ${data && !data.length && html`<tr><td colspan="3">No dead letters${filters && " of these"}.</td></tr>`}</tbody></table></div>
    <p class="note">After a fix, this shows what it would publish again; <code>--execute</code> does it:</p>
    <${Command} text=${`retail-stream dlq replay${filters}`} />`;
}

/** For a shell: others than the cleaner may have written a dead letter, and its rules. */
const quoted = (word) => (/^[\w.-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function Letter({ x }) {
  const left = x.value_bytes - (x.value_hex?.length ?? 0) / 2;
  const hex = `${whole(x.value_bytes)} bytes: ${x.value_hex}${left ? ` … and ${whole(left)} bytes more` : ""}`;
  const shown = x.value ? pretty(x.value, x.cut?.value) : x.undecoded ? `Not decoded: ${x.undecoded}` : "Not Avro of a registered schema.";
  return html`<tr><td>${x.time === null ? "" : clock(Date.parse(x.time) / 1000)}</td><td class="code">${x.origin ?? "unknown"}</td>
    <td class="rule"><details data-letter=${x.letter}><summary>${breakable(x.rules.slice(0, MOST_RULES).join(", ") || "no rule is named")}${x.rules.length > MOST_RULES && ` and ${x.rules.length - MOST_RULES} more`}</summary>
      <p class="why">${x.message ?? "No message"}</p><pre>${shown}</pre>
      <pre>${`key ${x.key ?? "null"}\n${x.value_hex == null ? "no value" : hex}`}</pre></details></td></tr>`;
}
