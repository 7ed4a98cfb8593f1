// The matrix as a picture, in SVG: a row for each plugin and transport, a column for each load.

import { placeOf } from "./cells.mjs";

/** @typedef {import("./summary.mjs").Summary} Summary */

const CELL = { width: 76, height: 38 };
const MARGIN = 12;
const LABEL_WIDTH = 168;
const HEAD_HEIGHT = 58;
const TITLE_HEIGHT = 30;
const LEGEND_HEIGHT = 44;

/** Of a scale that colour-blind readers can tell apart, too. */
const SLOWER = [140, 81, 10];
const EQUAL = [245, 242, 233];
const FASTER = [1, 102, 94];
/** Four times as fast, or a quarter: there the colours end. */
const FULL_LOG2 = 2;

/** How strong the colour is, from 0 to 1. @param {number} ratio */
const strength = (ratio) => Math.min(1, Math.abs(Math.log2(ratio)) / FULL_LOG2) ** 0.6;

/** @param {number} ratio */
function colour(ratio) {
  const end = ratio < 1 ? SLOWER : FASTER;
  const part = strength(ratio);
  const mixed = EQUAL.map((value, i) => Math.round(value + part * ((end[i] ?? 0) - value)));
  return `rgb(${mixed.join(",")})`;
}

/** @param {string} text */
const escaped = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** @param {number} x @param {number} y @param {string} style @param {string} content */
const text = (x, y, style, content) =>
  `<text x="${x}" y="${y}" class="${style}">${escaped(content)}</text>`;

/** @param {number} ratio */
const digits = (ratio) => (Number.isFinite(ratio) ? ratio.toFixed(ratio < 9.95 ? 2 : 1) : "∞");

/** @param {Summary} summary @param {number} x @param {number} y */
function drawCell({ cell, peer, ratio, interval, verdict, ofLimit }, x, y) {
  const isDark = strength(ratio) > 0.6;
  const middle = x + CELL.width / 2;
  const behind = verdict === "behind" ? ' class="behind"' : "";
  const [low, high] = interval.map(digits);
  const said = `${cell} against ${peer}: ${digits(ratio)} (${low}–${high})`;
  const ink = isDark ? "light" : "dark";
  return [
    `<g><title>${escaped(said)}</title>`,
    `<rect x="${x + 1}" y="${y + 1}" width="${CELL.width - 2}" height="${CELL.height - 2}" rx="3" fill="${colour(ratio)}"${behind}/>`,
    text(middle, y + (ofLimit === undefined ? 24 : 19), `number ${ink}`, digits(ratio)),
    ...(ofLimit === undefined
      ? []
      : [text(middle, y + 31, `limit ${ink}`, `${Math.round(100 * ofLimit)} %`)]),
    "</g>",
  ].join("");
}

/**
 * All cells against one peer.
 * @param {readonly Summary[]} summaries
 * @param {string} peer
 * @param {readonly string[]} columns
 * @param {number} top
 */
function drawPeer(summaries, peer, columns, top) {
  const own = summaries.filter((summary) => summary.peer === peer);
  const rows = [...new Set(own.map(({ cell }) => placeOf(cell).row))];
  const left = MARGIN + LABEL_WIDTH;
  const head = top + TITLE_HEIGHT;
  const parts = [text(MARGIN, top + 20, "title", `asyncnbd / ${peer}, requests a second`)];
  for (const [i, column] of columns.entries()) {
    const [size = "", ...load] = column.split(" ");
    parts.push(text(left + (i + 0.5) * CELL.width, head + 22, "head", size));
    parts.push(text(left + (i + 0.5) * CELL.width, head + 40, "head", load.join(" ")));
  }
  for (const [i, row] of rows.entries())
    parts.push(text(MARGIN, head + HEAD_HEIGHT + i * CELL.height + 24, "row", row));
  for (const summary of own) {
    const { row, column } = placeOf(summary.cell);
    const x = left + columns.indexOf(column) * CELL.width;
    parts.push(drawCell(summary, x, head + HEAD_HEIGHT + rows.indexOf(row) * CELL.height));
  }
  return { parts, bottom: head + HEAD_HEIGHT + rows.length * CELL.height };
}

const STYLE = `
  .page { fill: #ffffff; } .title, .row, .head, .legend { fill: #1f2328; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } .title, .row, .head, .legend { fill: #e6edf3; }
  }
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
  .title { font-size: 15px; font-weight: 600; } .legend { font-size: 12px; }
  .head, .number, .limit { text-anchor: middle; } .number { font-weight: 600; }
  .limit { font-size: 11px; } .dark { fill: #1f2328; } .light { fill: #ffffff; }
  .behind { stroke: #d1242f; stroke-width: 2.5; }`;

/** @param {readonly Summary[]} summaries at least one */
export function heatMap(summaries) {
  const columns = [...new Set(summaries.map(({ cell }) => placeOf(cell).column))];
  const peers = [...new Set(summaries.map(({ peer }) => peer))];
  const parts = [];
  let top = MARGIN / 2;
  for (const peer of peers) {
    const drawn = drawPeer(summaries, peer, columns, top);
    parts.push(...drawn.parts);
    top = drawn.bottom + MARGIN;
  }
  parts.push(
    text(
      MARGIN,
      top + 14,
      "legend",
      "Above 1 asyncnbd is faster. Small: of what the same bytes take without a protocol.",
    ),
  );
  parts.push(text(MARGIN, top + 31, "legend", "Red frame: slower with 95 % certainty."));
  const width = 2 * MARGIN + LABEL_WIDTH + columns.length * CELL.width;
  const height = top + LEGEND_HEIGHT;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<style>${STYLE}</style>`,
    `<rect class="page" width="${width}" height="${height}" rx="6"/>`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}
