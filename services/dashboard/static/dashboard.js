// One stream of looks drives every panel; history and score ask for themselves.
import { one, el, say } from "./elements.js";
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
  say("#connection", `Live, ${new Date(now.at * 1000).toISOString().slice(11, 19)} UTC`);
  const sentences = now.problems.join("\n");
  if (sentences !== problems) {
    problems = sentences;
    one("#problems").replaceChildren(...now.problems.map((why) => el("p", {}, why)));
  }
  for (const panel of [flow, windows, lateness, quality, score]) panel(now);
}

const stream = new EventSource("/api/live");
stream.addEventListener("past", (event) => past(JSON.parse(event.data)));
stream.addEventListener("look", (event) => look(JSON.parse(event.data)));

setInterval(() => {
  if (Date.now() - heard > 5000) say("#connection", "The dashboard's server does not answer; trying again.");
}, 1000);
