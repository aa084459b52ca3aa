// The picture: services with their state, arrows with rate and lag.
import { clock, rate, say, whole } from "./elements.js";

const WORDS = { ready: "ready", starting: "not ready", degraded: "a replica is missing", down: "down" };

export function flow(now) {
  for (const { name, state, ready, replicas } of now.services ?? []) {
    box(name, state, replicas > 1 ? `${WORDS[state]}, ${ready} of ${replicas}` : WORDS[state]);
  }
  const away = now.problems.warehouse;
  if (away) box("warehouse", "down", away.includes("answer") ? "does not answer" : "refuses the dashboard");
  else if (now.stream) box("warehouse", "ready", "answers");
  for (const [name, { per_s }] of Object.entries(now.flow ?? {})) say(`[data-rate=${name}]`, rate(per_s));
  for (const [group, lag] of Object.entries(now.lag ?? {})) say(`[data-lag=${group}]`, whole(lag));
  if (now.letters) say("[data-total=letters]", whole(now.letters.total + now.letters.skipped));
  if (now.late != null) say("[data-total=late]", whole(now.late));
  if (!now.stream) return;
  say("[data-total=outbox]", whole(now.stream.outbox));
  say("[data-total=idle]", whole(now.stream.idle_partitions));
  const watermark = now.stream.watermark;
  say("[data-watermark=time]", watermark == null ? "none yet" : `${clock(watermark)} UTC`);
  say("[data-watermark=behind]", watermark == null ? "" : `${whole(Math.max(0, Math.round(now.at - watermark)))} s behind`);
}

function box(name, state, words) {
  const box = document.querySelector(`[data-service=${name}]`);
  if (!box) return;
  box.dataset.state = state;
  say(`[data-service=${name}] .state`, words);
}
