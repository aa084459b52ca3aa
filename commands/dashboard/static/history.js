// The versions of one customer, product or store.
import { ask, el, moment, money, one, whole } from "./elements.js";

const form = one("#history-form");
const matches = one("#found");
const place = one("#versions");

// Each request has a number; an answer to any but the newest request is not shown.
let asked = 0;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { entity, q } = Object.fromEntries(new FormData(form));
  const mine = ++asked;
  matches.replaceChildren();
  place.replaceChildren();
  try {
    const keys = await ask(`/api/keys/${entity}?limit=20&q=${encodeURIComponent(q)}`);
    if (mine !== asked) return;
    matches.replaceChildren(...keys.map(({ id, name }) => el("li", {}, el("button", { type: "button", onclick: () => show(entity, id) }, `${id} ${name}`))));
    if (keys.length === 1) await show(entity, keys[0].id);
    if (!keys.length) place.replaceChildren(el("p", { class: "empty" }, `No ${entity.slice(0, -1)} has the id ${q}, or ${q} in its name.`));
  } catch (error) {
    if (mine === asked) place.replaceChildren(el("p", { class: "empty" }, error.message));
  }
});

async function show(entity, id) {
  const mine = ++asked;
  try {
    const history = await ask(`/api/history/${entity}/${id}`);
    if (mine === asked) draw(history);
  } catch (error) {
    if (mine === asked) place.replaceChildren(el("p", { class: "empty" }, error.message));
  }
}

function draw({ entity, id, versions, versions_total, sales_counted, sales_without_version }) {
  const title = `${entity.slice(0, -1)} ${id}: ${whole(versions_total)} version${versions_total === 1 ? "" : "s"}`;
  const notes = [];
  if (versions_total > versions.length) notes.push(`The newest ${versions.length} are shown.`);
  if (!sales_counted) notes.push("The sales per version are left out: Postgres did not count them within 5 s.");
  if (sales_without_version) notes.push(`${whole(sales_without_version)} sales fall in a gap after a delete.`);
  place.replaceChildren(el("h3", {}, title), line(versions),
    el("ol", { class: "versions" }, ...versions.map(version)), ...notes.map((n) => el("p", { class: "note" }, n)));
}

/** A bar per version, the oldest on the left, its width the time for which it was valid. */
function line(versions) {
  const times = [...versions].reverse().map((v, i) => ({
    at: versions.length - 1 - i, from: Date.parse(v.valid_from), to: v.valid_to ? Date.parse(v.valid_to) : Date.now(), v,
  }));
  const made = el("div", { class: "line", role: "group", "aria-label": "Time line of the versions, the oldest first" });
  times.forEach(({ at, from, to, v }, i) => {
    const part = el("button", {
      type: "button", class: v.is_current ? "" : "closed",
      "aria-label": `Version from ${moment(v.valid_from)} to ${moment(v.valid_to)}`,
      title: `${moment(v.valid_from)} – ${moment(v.valid_to)}`,
      onclick: () => one(`#version-${at}`).focus(),
    });
    part.style.flexGrow = Math.max(1, to - from);
    made.append(part);
    if (i + 1 < times.length && times[i + 1].from > to) {
      const gap = el("button", { type: "button", class: "gap", "aria-label": "Deleted in between", title: "Deleted in between", disabled: true });
      gap.style.flexGrow = times[i + 1].from - to;
      made.append(gap);
    }
  });
  return made;
}

function version(v, at) {
  const changes = v.changed === null
    ? [el("p", {}, Object.entries(v.fields).map(([name, value]) => `${name} ${value}`).join(", "))]
    : Object.entries(v.changed).map(([name, was]) => el("p", {}, `${name}: `, el("del", {}, was), " → ", el("ins", {}, v.fields[name])));
  const until = v.is_current ? "now, current" : moment(v.valid_to);
  return el("li", { id: `version-${at}`, tabindex: "-1" }, el("b", {}, `${moment(v.valid_from)} – ${until}`), ...changes,
    v.sales === null ? "" : el("p", { class: "note" }, `${whole(v.sales)} sales as of it, ${whole(v.units)} units, ${money(v.total_amount)}`));
}
