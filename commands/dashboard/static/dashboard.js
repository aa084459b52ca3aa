// One stream of snapshots drives every panel. A panel is a module of its own: one that fails leaves the others alive.
import { html, render } from "./preact/standalone.module.js";

const PANELS = ["verdict", "flow", "windows", "lateness", "quality", "letters", "records", "partitions", "history"];
const RETRY_MS = 5000;
const KEPT = 300;

const trends = { at: [], series: {} };
let now = null;
let received = Date.now();
const panels = new Map();

/** A place for a panel's content, below its title. */
function place(name) {
  const section = document.getElementById(name);
  section.querySelector(":scope > .content")?.remove();
  const content = document.createElement("div");
  content.className = "content";
  section.append(content);
  return content;
}

async function load(name, attempt = 0) {
  try {
    // A browser remembers that a module failed; another address is another module.
    const module = await import(`./panels/${name}.js${attempt ? `?attempt=${attempt}` : ""}`);
    panels.set(name, { Panel: module.default, content: place(name), attempt });
    draw(name);
  } catch (error) {
    fail(name, attempt, error);
  }
}

function fail(name, attempt, error) {
  panels.delete(name);
  console.info(`panel ${name}:`, error);
  const again = setTimeout(() => load(name, attempt + 1), RETRY_MS);
  const retry = () => { clearTimeout(again); load(name, attempt + 1); };
  render(html`<p class="failed" role="alert">This panel failed: ${error.message}. It tries again in ${RETRY_MS / 1000} s.
    <button type="button" onClick=${retry}>Try now</button></p>`, place(name));
}

function draw(name) {
  const panel = panels.get(name);
  if (!panel || !now) return;
  try {
    render(html`<${panel.Panel} now=${now} trends=${trends} />`, panel.content);
  } catch (error) {
    fail(name, panel.attempt, error);
  }
}

function append({ at, figures }) {
  if (trends.at.at(-1) === at) return;
  // The server's clock was set back.
  while (trends.at.length && at < trends.at.at(-1)) {
    trends.at.pop();
    for (const values of Object.values(trends.series)) values.pop();
  }
  trends.at.push(at);
  for (const name of new Set([...Object.keys(trends.series), ...Object.keys(figures)])) {
    const values = (trends.series[name] ??= new Array(trends.at.length - 1).fill(null));
    values.push(figures[name] ?? null);
    if (values.length > KEPT) values.shift();
  }
  if (trends.at.length > KEPT) trends.at.shift();
}

const say = (selector, text) => {
  const element = document.querySelector(selector);
  if (element.textContent !== text) element.textContent = text;
};

function update(look) {
  now = look;
  received = Date.now();
  if (look.sample) append(look.sample);
  // Two elements: a screen reader announces the connection, not every second.
  say("#connection [role=status]", "Live");
  say("#connection time", `${new Date(look.at * 1000).toISOString().slice(11, 19)} UTC`);
  document.body.classList.remove("stale");
  for (const name of panels.keys()) draw(name);
}

let stream;
function connect() {
  stream?.close();
  stream = new EventSource("/api/live");
  stream.addEventListener("past", (event) => Object.assign(trends, JSON.parse(event.data)));
  stream.addEventListener("look", (event) => update(JSON.parse(event.data)));
}

setInterval(() => {
  if (Date.now() - received <= 5000) return;
  // A refused stream is closed for good; one that is open reconnects by itself.
  if (stream.readyState === EventSource.CLOSED) connect();
  look();
}, 2500);

/** Ask for one snapshot: so many pages may be open that the server refuses another stream. */
async function look() {
  try {
    const answer = await fetch("/api/look", { signal: AbortSignal.timeout(2400) });
    if (!answer.ok) throw new Error(answer.statusText);
    update(await answer.json());
    // The next turn asks again, unless the stream is there.
    received -= 4000;
  } catch {
    document.body.classList.add("stale");
    say("#connection [role=status]", "The dashboard's server does not answer. Trying again. Figures are from");
  }
}

connect();
for (const name of PANELS) load(name);
