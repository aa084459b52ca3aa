// The versions of one customer, product or store.
import { ask, Choice, html, moment, money, useRef, useState, whole } from "../kit.js";

export default function History() {
  const [entity, setEntity] = useState("customers");
  const [found, setFound] = useState([]);
  const [shown, setShown] = useState(null);
  const [said, say] = useState("");
  // Each request has a number; an answer to any but the newest request is not shown.
  const asked = useRef(0);

  const attempt = async (work) => {
    const mine = ++asked.current;
    say("");
    try {
      const apply = await work();
      if (mine === asked.current) apply();
    } catch (error) {
      if (mine === asked.current) say(error.message);
    }
  };
  const show = (of, id) => attempt(async () => {
    const history = await ask(`/api/history/${of}/${id}`);
    return () => setShown(history);
  });
  const find = (event) => {
    event.preventDefault();
    const { entity: of, q } = Object.fromEntries(new FormData(event.target));
    setFound([]);
    setShown(null);
    attempt(async () => {
      const keys = await ask(`/api/keys/${of}?limit=20&q=${encodeURIComponent(q)}`);
      return () => {
        setFound(keys.map((key) => ({ ...key, of })));
        if (keys.length === 1) show(of, keys[0].id);
        if (!keys.length) say(`No ${of.slice(0, -1)} has the id ${q}, or ${q} in its name.`);
      };
    });
  };
  return html`<form class="controls" id="history-form" role="search" aria-label="History" onSubmit=${find}>
      <${Choice} label="Dimension" name="entity" value=${entity} onChange=${setEntity} options=${["customers", "products", "stores"].map((e) => [e, e])} />
      <label>Id or name <input name="q" autocomplete="off" maxlength="100" placeholder="42 or Parka" /></label>
      <button>Find</button>
    </form>
    <ul id="found" class="found" aria-label="Found">${found.map(({ id, name, of }) => html`<li key=${`${of} ${id}`}>
      <button type="button" aria-pressed=${shown?.id === id && shown?.entity === of ? "true" : "false"} onClick=${() => show(of, id)}><b>${id}</b> <bdi>${name}</bdi></button></li>`)}</ul>
    <div id="versions" aria-live="polite">${said && html`<p class="empty">${said}</p>`}${shown && html`<${Versions} ...${shown} />`}</div>`;
}

function Versions({ entity, id, versions, versions_total, sales_counted, sales_without_version }) {
  const notes = [];
  if (versions_total > versions.length) notes.push(`The newest ${versions.length} are shown.`);
  if (!sales_counted) notes.push("The sales per version are left out: Postgres did not count them within 5 s.");
  if (sales_without_version) notes.push(`${whole(sales_without_version)} sales fall in a gap after a delete.`);
  return html`<h3>${`${entity.slice(0, -1)} ${id}: ${whole(versions_total)} version${versions_total === 1 ? "" : "s"}`}</h3>
    <${Line} versions=${versions} />
    <div class="scroll" tabindex="0" role="region" aria-label="Versions, the newest first">
      <ol class="versions">${versions.map((v, at) => html`<${Version} key=${v.valid_from} v=${v} at=${at} />`)}</ol></div>
    ${notes.map((n) => html`<p class="note">${n}</p>`)}`;
}

/** A bar per version, the oldest on the left, its width the time for which it was valid. */
function Line({ versions }) {
  const times = [...versions].reverse().map((v, i) => ({
    at: versions.length - 1 - i, from: Date.parse(v.valid_from), to: v.valid_to ? Date.parse(v.valid_to) : Date.now(), v,
  }));
  // The first version may be weeks long: it takes a tenth at most, so that the others are seen.
  const rest = times.slice(1).reduce((sum, { from, to }) => sum + to - from, 0);
  const wide = ({ from, to }, i) => Math.max(1, i || !rest ? to - from : Math.min(to - from, rest / 9));
  return html`<div class="line" role="group" aria-label="Time line of the versions, the oldest first">
    ${times.map((t, i) => html`
      <button type="button" class=${t.v.is_current ? "" : "closed"} style=${`flex-grow:${wide(t, i)}`}
        aria-label=${`Version from ${moment(t.v.valid_from)} to ${moment(t.v.valid_to)}`} title=${`${moment(t.v.valid_from)} – ${moment(t.v.valid_to)}`}
        onClick=${() => document.getElementById(`version-${t.at}`).focus()}></button>
      ${i + 1 < times.length && times[i + 1].from > t.to && html`<span class="gap" title="Deleted in between" style=${`flex-grow:${times[i + 1].from - t.to}`}></span>`}`)}
  </div>`;
}

function Version({ v, at }) {
  const until = v.is_current ? "now, current" : moment(v.valid_to);
  return html`<li id=${`version-${at}`} tabindex="-1"><b>${moment(v.valid_from)} – ${until}</b>
    ${v.changed === null
      ? html`<p>${Object.entries(v.fields).map(([name, value], i) => html`${i ? " · " : ""}<span class="soft">${name}</span> <bdi>${text(value)}</bdi>`)}</p>`
      : Object.entries(v.changed).map(([name, was]) => html`<p key=${name}><span class="soft">${name}</span> <del><bdi>${text(was)}</bdi></del> → <ins><bdi>${text(v.fields[name])}</bdi></ins></p>`)}
    ${v.sales !== null && html`<p class="note">${`${whole(v.sales)} sales as of it, ${whole(v.units)} units, ${money(v.total_amount)}`}</p>`}</li>`;
}

const text = (value) => (value === null ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value));
