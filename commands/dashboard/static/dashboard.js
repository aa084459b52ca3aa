// One stream of snapshots drives every panel; the history panel asks the server itself.
import { clock, one, el, say } from "./elements.js";
import { flow } from "./flow.js";
import { windows } from "./windows.js";
import { lateness } from "./lateness.js";
import { past, quality } from "./quality.js";
import "./history.js";

let received = 0;
let problems = "";

function update(now) {
  received = Date.now();
  // Two elements: a screen reader announces the connection, not every second.
  say("#connection [role=status]", "Live");
  say("#connection time", `${clock(now.at)} UTC`);
  const sentences = [...new Set(Object.values(now.problems))];
  if (sentences.join("\n") !== problems) {
    problems = sentences.join("\n");
    one("#problems").replaceChildren(...sentences.map((why) => el("p", {}, why)));
  }
  for (const panel of [flow, windows, lateness, quality]) panel(now);
}

const stream = new EventSource("/api/live");
stream.addEventListener("past", (event) => past(JSON.parse(event.data)));
stream.addEventListener("look", (event) => update(JSON.parse(event.data)));

setInterval(() => {
  if (Date.now() - received > 5000) say("#connection [role=status]", "The dashboard's server does not answer. Trying again.");
}, 1000);
