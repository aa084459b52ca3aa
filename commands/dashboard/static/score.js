// Planted faults against handled ones, where the generator keeps a ledger.
import { ask, cell, clock, el, number, one, row, say, whole } from "./elements.js";

const button = one("#score-now");
/** Up to so many raw records it is computed without being asked for. */
const SMALL = 300_000;
let asked = false;

export function score(now) {
  if (!now.flow) return;
  const planted = now.flow.faults.total > 0;
  button.hidden = !planted;
  if (!planted) say("#score-state", "There is no ledger of planted faults.");
  else if (!asked) {
    asked = true;
    if (now.flow.raw.total <= SMALL) compute();
    else say("#score-state", "There is a ledger of planted faults; the score reads all topics once.");
  }
}

const later = (ms) => new Promise((done) => setTimeout(done, ms));

async function compute() {
  button.disabled = true;
  try {
    let found;
    do {
      if (found) await later(1000);
      found = await ask("/api/score");
      if (found.faults) show(found);
      else say("#score-state", "Reading the ledger and the topics …");
    } while (found.computing);
  } catch (error) {
    say("#score-state", error.message);
  } finally {
    button.disabled = false;
  }
}

function show({ faults, at, computing }) {
  one("#scores-place").hidden = false;
  one("#scores tbody").replaceChildren(...faults.map((f) => row(el("th", { scope: "row" }, f.fault), number(f.planted), number(f.handled), f.missed ? cell(whole(f.missed), "n miss") : number(0))));
  const missed = faults.reduce((sum, f) => sum + f.missed, 0);
  const all = faults.reduce((sum, f) => sum + f.planted, 0);
  const newer = computing ? "; a newer one is being computed" : "";
  say("#score-state", `${whole(all)} faults planted, ${whole(all - missed)} handled, ${whole(missed)} missed; as of ${clock(at)} UTC${newer}.`);
}

button.addEventListener("click", compute);
