// Whether all is well; what is wrong, since when, and what the service itself says.
import { clock, html, long } from "../kit.js";

const WORDS = { good: "All is well", worrying: "Worrying", bad: "Something is wrong" };
export const ICON = { good: "✓", worrying: "!", bad: "✕" };

export default function Verdict({ now }) {
  const verdict = now.verdict;
  if (!verdict) return html`<p class="verdict" data-level="unknown" role="status"><b>Reading the services …</b></p>`;
  const { level, since, findings } = verdict;
  return html`<div class="verdict" data-level=${level}>
    <span class="mark" aria-hidden="true">${ICON[level]}</span>
    <div role="status"><b>${WORDS[level]}</b> <span class="soft">since ${clock(since)} UTC</span></div>
    <span class="soft age" title="How long the verdict has been this">${long(Math.max(0, now.at - since))}</span>
    <ul id="problems" aria-label="What is wrong" aria-live="polite">
      ${findings.map((f) => html`<li key=${f.about} data-level=${f.level}>
        <span class="mark" aria-hidden="true">${ICON[f.level]}</span>
        <b>${sentence(f.what)}</b> <span class="soft">since ${clock(f.since)} UTC</span>
        ${f.why && html`<br /><span class="why">${f.why}</span>`}</li>`)}
    </ul>
  </div>`;
}

const sentence = (text) => text + (text.endsWith(".") ? "" : ".");
