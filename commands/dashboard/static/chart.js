// uPlot in a panel: drawn anew only if its series change, with the values under the pointer beside it.
import { clock, color, html, useEffect, useRef, useScheme } from "./kit.js";

const axis = (more) => ({
  stroke: color("soft"), font: "11px system-ui, sans-serif", grid: { stroke: color("grid"), width: 1 },
  ticks: { show: false }, ...more,
});
// Two labels may not differ only in what is not shown.
const times = (_, ticks, __, ___, step) => ticks.map((at) => (step < 60 ? clock(at).slice(-8) : clock(at).slice(-8, -3)));

/**
 * `series`: [{label, color, bars?}], `data`: uPlot's columns, `tip(i)`: lines of text for the point under the pointer.
 * `stacked`: each series is drawn over the one before it, from the axis up.
 */
export function Chart({ series, data, label, tip, format, range, height = 220, gap = 0 }) {
  const place = useRef(null);
  const bubble = useRef(null);
  const made = useRef(null);
  const latest = useRef({});
  const scheme = useScheme();
  latest.current = { tip, data, range };
  const kind = JSON.stringify([series, height, scheme]);

  useEffect(() => {
    const target = place.current;
    if (typeof uPlot === "undefined") {
      target.textContent = "The chart's library did not load; the figures are in the table. Load the page again.";
      return undefined;
    }
    const show = (plot) => {
      const i = plot.cursor.idx;
      const box = bubble.current;
      const lines = i === null || i === undefined ? null : latest.current.tip?.(i);
      box.hidden = !lines;
      if (!lines) return;
      box.replaceChildren(...lines.map(([text, swatch]) => {
        const line = document.createElement("p");
        if (swatch) line.className = `key ${swatch}`;
        line.textContent = text;
        return line;
      }));
      const left = plot.valToPos(plot.data[0][i], "x") + plot.bbox.left / devicePixelRatio;
      box.style.left = `${Math.max(0, Math.min(left + 12, target.clientWidth - box.offsetWidth))}px`;
    };
    const options = {
      width: target.clientWidth, height,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: true, range: (_, least, most) => latest.current.range?.(least, most) ?? [least, most] }, y: { range: (_, least, most) => [Math.min(0, least * 1.1), Math.max(most, 1e-9) * 1.08] } },
      axes: [axis({ values: times, space: 70, size: 26 }), axis({ size: 52, values: (_, ticks) => ticks.map(format) })],
      series: [{}, ...series.map((s) => ({
        label: s.label, stroke: color(s.color), width: s.bars ? 0 : 1.5, fill: s.bars ? color(s.color) : undefined,
        paths: s.bars ? uPlot.paths.bars({ size: [0.86, 90, 2], align: 0, radius: s.radius ?? 0 }) : s.marks ? () => null : undefined,
        points: s.marks ? { show: true, size: 7, width: 2, fill: color("panel") } : { show: false },
      }))],
      hooks: { setCursor: [show] },
    };
    const plot = new uPlot(options, latest.current.data, target);
    made.current = plot;
    const resized = new ResizeObserver(() => target.clientWidth && plot.setSize({ width: target.clientWidth, height }));
    resized.observe(target);
    return () => { resized.disconnect(); plot.destroy(); made.current = null; };
  }, [kind]);

  useEffect(() => { made.current?.setData(data); });

  return html`<div class="chart" style=${`height:${height}px`} role="img" aria-label=${label}>
    <div ref=${place}></div><div class="tip" ref=${bubble} hidden></div></div>`;
}
