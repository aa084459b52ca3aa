// The picture: services with their state, arrows with rate and lag, and their trends.
import { clock, figure, html, long, rate, Spark, whole } from "../kit.js";

const WORDS = { ready: "ready", starting: "not ready", degraded: "a replica is missing", down: "down" };
const TITLES = { generator: "Generator", cleaner: "Cleaner", scd_merger: "SCD merger", aggregator: "Aggregator" };

function Box({ name, state, words, why, children, title }) {
  return html`<li class="box" data-service=${name} data-state=${state}>
    <h3>${title ?? TITLES[name]} <span class="state" title=${why}>${words}</span></h3>${children}</li>`;
}

/** A figure: value, unit, what it means on hover, its trend, and how good it is. */
function Figure({ label, value, unit, meaning, level = "none", trend, data }) {
  return html`<div class="figure" data-level=${level} title=${meaning}>
    <dt>${label}</dt><dd><b ...${data}>${value}</b> <span class="unit">${unit}</span>${trend && html`<${Spark} values=${trend} label=${label} />`}</dd></div>`;
}

const levels = (now, about) => now.verdict?.findings.find((f) => f.about === about)?.level ?? "good";

function Lag({ now, trends, group, flow }) {
  const lag = now.lag?.[group];
  return html`<${Figure} label="lag" value=${lag === undefined ? "–" : figure(lag)} unit="records" level=${levels(now, `lag ${group}`)}
    trend=${trends.series[`lag.${group}`]} data=${{ "data-lag": group }}
    meaning=${`Records of ${flow} that ${group} has still to read, the least of the last 5 s. Worrying: 10 s of work at the present rate, for 10 s. Bad: 60 s.`} />`;
}

function Rate({ now, trends, name, label, meaning, level }) {
  const flow = now.flow?.[name];
  return html`<${Figure} label=${label} value=${flow ? rate(flow.per_s) : "–"} unit="/s" trend=${trends.series[`rate.${name}`]}
    data=${{ "data-rate": name }} level=${level} meaning=${meaning} />`;
}

export default function Flow({ now, trends }) {
  const service = (name) => {
    const s = (now.services ?? []).find((each) => each.name === name) ?? { state: "unknown" };
    const words = WORDS[s.state] ?? "not asked yet";
    return { name, state: s.state, words: s.replicas > 1 ? `${words}, ${s.ready} of ${s.replicas}` : words, why: s.why };
  };
  const away = now.problems.warehouse;
  const watermark = now.stream?.watermark;
  const behind = watermark == null ? null : Math.max(0, Math.round(now.at - watermark));
  const letters = now.letters && now.letters.total + now.letters.skipped;
  const over = trends.at.length > 1 ? trends.at.at(-1) - (trends.at.at(-150) ?? trends.at[0]) : 0;
  const in_all = (n) => (n == null ? "–" : whole(n));
  return html`<ol class="flow">
    <${Box} ...${service("generator")}><dl>
      <${Rate} now=${now} trends=${trends} name="raw" label="<entity>.raw" meaning="Records of all four entities that are published, a second, over the last 10 s" />
      </dl></${Box}>
    <${Box} ...${service("cleaner")}><dl>
      <${Lag} now=${now} trends=${trends} group="cleaner" flow="the raw topics" />
      <${Rate} now=${now} trends=${trends} name="dlq" label="rejected" level=${levels(now, "rejects")}
        meaning="Records that go to <entity>.dlq, a second. Worrying: 10 % of the last minute's records. Bad: 50 %." /></dl>
      <p class="note"><b data-total="letters">${in_all(letters)}</b> dead letters in all</p></${Box}>
    <${Box} ...${service("scd_merger")}><dl>
      <${Rate} now=${now} trends=${trends} name="clean_dimensions" label="dimensions, .clean" meaning="Clean changes of customers, products and stores, a second" />
      <${Lag} now=${now} trends=${trends} group="scd_merger" flow="the clean dimension topics" /></dl></${Box}>
    <${Box} ...${service("aggregator")}><dl>
      <${Rate} now=${now} trends=${trends} name="clean_sales" label="sales.clean" meaning="Clean sales a second" />
      <${Lag} now=${now} trends=${trends} group="aggregator" flow="sales.clean" /></dl>
      <p class="note" title="Results of windows that are published, a second; sales that were too late for a window, in all">
        results <b data-rate="windows">${now.flow ? rate(now.flow.windows.per_s) : "–"}</b>/s, too late <b data-total="late">${in_all(now.late)}</b></p></${Box}>
    <${Box} name="warehouse" title="Warehouse" state=${away ? "down" : now.stream ? "ready" : "unknown"} why=${away}
        words=${away ? (away.includes("answer") ? "does not answer" : "refuses the dashboard") : now.stream ? "answers" : "not asked yet"}><dl>
      <${Figure} label="watermark" level=${levels(now, "watermark")} trend=${trends.series.behind} data=${{ "data-watermark": "behind" }}
        value=${behind === null ? "–" : whole(behind)} unit="s behind"
        meaning="How far event time is behind the clock. Worrying: the watermark stands still for 30 s while sales arrive. Bad: for 90 s." /></dl>
      <p class="note"><b data-watermark="time">${watermark == null ? "none yet" : `${clock(watermark)} UTC`}</b></p>
      <p class="note" title="Results that wait to be published; partitions that do not hold back the watermark, as they are silent">
        outbox <b data-total="outbox">${in_all(now.stream?.outbox)}</b>, idle partitions <b data-total="idle">${in_all(now.stream?.idle_partitions)}</b></p></${Box}>
  </ol>
  ${over > 0 && html`<p class="note">Trends of the last ${long(over)}, each from 0.</p>`}`;
}
