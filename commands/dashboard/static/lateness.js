// The delays of sales, and the revisions of windows that they caused.
import { cell, el, number, one, row, say, whole } from "./elements.js";

export function lateness(now) {
  const rows = (now.windows ?? []).flatMap((w) => w.rows);
  say("[data-total=revised]", whole(rows.reduce((sum, r) => sum + r.revised, 0)));
  say("[data-total=revisions]", whole(rows.reduce((sum, r) => sum + r.revisions, 0)));
  if (!now.delays) return;
  const { bounds_s, counts, sampled } = now.delays;
  const body = one("#delays tbody");
  if (!sampled) {
    body.replaceChildren(row(el("td", { colspan: 3 }, "No sales yet.")));
    return;
  }
  body.replaceChildren(...counts.map((n, i) => {
    const share = (100 * n) / sampled;
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${0.07 * share}rem`;
    const wide = cell(bar);
    wide.append(` ${share.toFixed(1)} %`);
    return row(el("th", { scope: "row" }, i < bounds_s.length ? `${bounds_s[i]} s` : "longer"), number(n), wide);
  }));
}
