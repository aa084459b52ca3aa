// What every panel is built of. Text goes in as text, never as markup.
import { html, useEffect, useRef, useState } from "./preact/standalone.module.js";
export { html, useEffect, useRef, useState };
export { useMemo } from "./preact/standalone.module.js";

export const whole = (n) => Number(n).toLocaleString("en", { maximumFractionDigits: 0 });
export const money = (n) => Number(n).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
export const short = (n) => Number(n).toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
/** A count that fits a box: from ten million on in short. */
export const figure = (n) => (n < 1e7 ? whole(n) : short(n));
export const rate = (n) => (n < 9.95 ? Number(n).toFixed(1) : figure(n));
/** The time in UTC, with its date unless that is today. */
export const clock = (seconds) => {
  const [day, time] = new Date(seconds * 1000).toISOString().slice(0, 19).split("T");
  return day === new Date().toISOString().slice(0, 10) ? time : `${day} ${time}`;
};
export const moment = (iso) => (iso === null ? "now" : iso.replace("T", " ").replace(/(\.\d+)?(\+00:00|Z)$/, ""));
/** A duration in two units at most. */
export const long = (s) => {
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
};

/** A value as text. `cut`: its length in characters, if it is only the beginning. */
export const pretty = (value, cut) => `${typeof value === "string" ? value : JSON.stringify(value, null, 1)}${cut ? `\nCut; ${whole(cut)} characters in all.` : ""}`;

export async function ask(path, signal) {
  let answer;
  try {
    answer = await fetch(path, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The dashboard's server does not answer. Trying again.");
  }
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

/** The newest answer to a path, asked again every `every` ms and whenever `fresh` changes; null asks nothing. */
export function useAnswer(path, every, fresh) {
  const [answer, set] = useState({ path: null, data: null, error: null });
  useEffect(() => {
    if (path === null) return undefined;
    const over = new AbortController();
    let timer;
    const again = async () => {
      try {
        const data = await ask(path, over.signal);
        set({ path, data, error: null });
      } catch (error) {
        if (error.name === "AbortError") return;
        set((was) => ({ ...was, error: error.message }));
      }
      if (every) timer = setTimeout(again, document.hidden ? 10 * every : every);
    };
    again();
    return () => { over.abort(); clearTimeout(timer); };
  }, [path, every, fresh]);
  return answer;
}

/** The last values of a series as a line; flat series lie at the bottom. */
export function Spark({ values, label }) {
  const kept = (values ?? []).slice(-150);
  const known = kept.filter((v) => v !== null);
  if (known.length < 2) return html`<svg class="spark" aria-hidden="true"></svg>`;
  const most = Math.max(...known, 1e-9);
  const at = (v, i) => `${((100 * i) / (kept.length - 1)).toFixed(1)},${(27 - (24 * v) / most).toFixed(1)}`;
  const points = kept.map((v, i) => (v === null ? null : at(v, i))).filter(Boolean);
  return html`<svg class="spark" viewBox="0 0 100 28" preserveAspectRatio="none" role="img"
      aria-label=${`${label}: from ${short(known[0])} to ${short(known.at(-1))}, at most ${short(most)}`}>
    <polygon points=${`${points[0].split(",")[0]},28 ${points.join(" ")} ${points.at(-1).split(",")[0]},28`} />
    <polyline points=${points.join(" ")} vector-effect="non-scaling-stroke" />
  </svg>`;
}

export const Choice = ({ label, value, options, onChange, name }) => html`<label>${label}
  <select name=${name} value=${value} onChange=${(e) => onChange(e.target.value)}>
    ${options.map(([v, text]) => html`<option value=${v} selected=${v === value}>${text}</option>`)}
  </select></label>`;

export const Scroll = ({ label, children }) => html`<div class="scroll" tabindex="0" role="region" aria-label=${label}>${children}</div>`;

/** A command with a button that copies it. */
export function Command({ text }) {
  const [copied, set] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set(true);
      setTimeout(() => set(false), 2000);
    } catch { /* The text can be selected by hand. */ }
  };
  return html`<p class="command"><code>${text}</code> <button type="button" onClick=${copy}>${copied ? "Copied" : "Copy"}</button></p>`;
}

/** Re-renders when the colour scheme or the width of the window changes. */
export function useScheme() {
  const [scheme, set] = useState(0);
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => set((n) => n + 1);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);
  return scheme;
}

/** A name that may break behind each underscore. */
export const breakable = (name) => name.split(/(?<=_)/).flatMap((part, i) => (i ? [html`<wbr />`, part] : [part]));

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
/** One of the twelve colours of dashboard.css. */
export const category = (i) => `c${i % 12}`;
