// One stream of looks drives every panel; history and score ask for themselves.
import { clock, one, el, say } from "./elements.js";
import { flow } from "./flow.js";
import { windows } from "./windows.js";
import { lateness } from "./lateness.js";
import { past, quality } from "./quality.js";
import "./history.js";
import { score } from "./score.js";

let heard = 0;
let problems = "";

function look(now) {
  heard = Date.now();
  // Two elements: a screen reader is told of the connection, not of every second.
  say("#connection [role=status]", "Live");
  say("#connection time", `${clock(now.at)} UTC`);
  const sentences = [...new Set(Object.values(now.problems))];
  if (sentences.join("\n") !== problems) {
    problems = sentences.join("\n");
    one("#problems").replaceChildren(...sentences.map((why) => el("p", {}, why)));
  }
  for (const panel of [flow, windows, lateness, quality, score]) panel(now);
}

const stream = new EventSource("/api/live");
stream.addEventListener("past", (event) => past(JSON.parse(event.data)));
stream.addEventListener("look", (event) => look(JSON.parse(event.data)));

setInterval(() => {
  if (Date.now() - heard > 5000) say("#connection [role=status]", "The dashboard's server does not answer; trying again.");
}, 1000);
