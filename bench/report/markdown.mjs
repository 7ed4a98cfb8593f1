// The report, as Markdown.

import { LOADS } from "../sections/throughput.mjs";
import { median } from "../support/statistics.mjs";
import { bars, cell } from "./summary.mjs";

/** @typedef {import("./summary.mjs").Results} Results */

/** @param {readonly string[]} head @param {readonly (readonly string[])[]} rows */
export const table = (head, rows) =>
  [head, head.map((_, i) => (i === 0 ? "---" : "---:")), ...rows]
    .map((cells) => `| ${cells.join(" | ")} |`)
    .join("\n");

/** Three digits that matter. @param {number} value */
const short = (value) =>
  value >= 100_000
    ? `${Math.round(value / 1000)} k`
    : value >= 100
      ? String(Math.round(value))
      : value.toPrecision(value >= 10 ? 3 : 2);

const ratio = (/** @type {number} */ value) => value.toFixed(2);

/** @param {Results} results */
function barTable(results) {
  const rows = bars(results).map((one) => {
    const unit = one.unit === undefined ? "" : ` ${one.unit}`;
    const sign = one.sense === "at least" ? "≥" : "≤";
    return [
      one.work,
      one.against,
      `${sign} ${one.bar}${unit}`,
      `${one.isMet ? "" : "**"}${ratio(one.value)}${unit}${one.isMet ? "" : "** (missed)"}`,
      one.range.map(ratio).join("–"),
    ];
  });
  return table(["work", "against", "bar", "measured", "rounds"], rows);
}

/** @param {Results} results */
function throughputTable(results) {
  const servers = [...new Set(results.throughput.map(({ server }) => server))];
  const loads = Object.keys(LOADS).filter((load) =>
    servers.some((server) => cell(results, server, load) !== undefined),
  );
  const rows = servers.map((server) => [
    server,
    ...loads.map((load) => {
      const found = cell(results, server, load);
      return found === undefined
        ? ""
        : `${short(found.perSecond)} ±${Math.round(50 * found.spread)}%`;
    }),
  ]);
  return table(["requests/s", ...loads], rows);
}

/** @param {Results} results */
function latencyTable(results) {
  const servers = [...new Set(results.throughput.map(({ server }) => server))];
  const rows = servers.flatMap((server) => {
    const [one, many] = ["4K read × 1", "4K read × 32"].map((load) => cell(results, server, load));
    if (one === undefined || many === undefined) return [];
    const latencies = [one, many].flatMap((found) =>
      [found.p50Us, found.p99Us, found.p999Us].map(short),
    );
    return [[server, ...latencies, many.cpuUs === undefined ? "unknown" : ratio(many.cpuUs)]];
  });
  return table(
    [
      "microseconds",
      ...[1, 32].flatMap((depth) => ["p50", "p99", "p99.9"].map((p) => `${p}, depth ${depth}`)),
      "processor time a request, depth 32",
    ],
    rows,
  );
}

/**
 * @template T
 * @param {readonly T[]} trials
 * @param {(trial: T) => string} row
 * @param {(trial: T) => string} column
 * @param {(trial: T) => number | null} value
 * @param {string} corner
 */
function pivot(trials, row, column, value, corner) {
  const rows = [...new Set(trials.map(row))];
  const columns = [...new Set(trials.map(column))];
  const at = (/** @type {string} */ r, /** @type {string} */ c) => {
    const values = trials
      .filter((trial) => row(trial) === r && column(trial) === c)
      .map(value)
      .filter((one) => one !== null);
    return values.length === 0 ? "—" : short(median(values));
  };
  return table(
    [corner, ...columns],
    rows.map((r) => [r, ...columns.map((c) => at(r, c))]),
  );
}

/** @param {Results} results */
function footprintTable({ footprint }) {
  const servers = [...new Set(footprint.map(({ server }) => server))];
  const rows = servers.map((server) => {
    const trials = footprint.filter((trial) => trial.server === server);
    const idle = trials.flatMap(({ idleKib }) => (idleKib === null ? [] : [idleKib]));
    return [
      server,
      short(median(trials.map((trial) => trial.startMs))),
      short(median(trials.map((trial) => trial.restMib))),
      idle.length === 0 ? "—" : short(median(idle)),
      short(median(trials.map((trial) => trial.connectionsPerSecond))),
    ];
  });
  return table(
    ["", "start, ms", "memory at rest, MiB", "idle connection, KiB", "connections/s"],
    rows,
  );
}

/** @param {Results} results @param {readonly string[]} pictures */
export function markdown(results, pictures) {
  const picture = (/** @type {string} */ name, /** @type {string} */ says) =>
    pictures.includes(`${name}.svg`) ? [`![${says}](${name}.svg)`] : [];
  const { environment, settings } = results;
  const sections = [
    "# asyncnbd and its peers, measured",
    "Written by `npm run bench`; `results.json` has all of it. " +
      `${settings.trials} rounds, each load for ${settings.seconds} s, all servers in turn in each ` +
      "round; medians, and of ratios the least and the greatest of the rounds. Disks of 256 MiB " +
      "full of data, over unix sockets, the client on the same machine: figures are for " +
      "comparing with each other, not with other machines'.",
    table(
      ["measured on", ""],
      Object.entries(environment).map(([name, value]) => [name, String(value)]),
    ),
  ];
  const met = bars(results);
  if (met.length > 0) sections.push("## What it has to reach", barTable(results));
  if (results.throughput.length > 0)
    sections.push(
      "## Throughput",
      ...picture("throughput", "reads a second by requests in flight"),
      throughputTable(results),
      "## Latency",
      ...picture("percentiles", "latency by percentile"),
      ...picture("distribution", "how latencies are distributed"),
      latencyTable(results),
    );
  if (results.scaling.length > 0)
    sections.push(
      "## Connections",
      ...picture("connections", "reads a second by connections"),
      pivot(
        results.scaling,
        (trial) => trial.server,
        (trial) => `${trial.connections} connections`,
        (trial) => trial.perSecond,
        "4 KiB reads/s, 32 in flight on each",
      ),
    );
  if (results.slow.length > 0)
    sections.push(
      "## A slow device",
      ...picture("slow-device", "throughput of a slow device by requests in flight"),
      pivot(
        results.slow,
        (trial) => trial.server,
        (trial) => `${trial.depth} in flight`,
        (trial) => trial.mibPerSecond,
        "MiB/s",
      ),
    );
  if (results.witnesses.length > 0)
    sections.push(
      "## Other clients",
      "Clients that others have written, on the same disks.",
      pivot(
        results.witnesses,
        (trial) => trial.server,
        (trial) => `${trial.client} (${trial.unit})`,
        (trial) => trial.value,
        "",
      ),
    );
  if (results.footprint.length > 0) sections.push("## Footprint", footprintTable(results));
  return `${sections.join("\n\n")}\n`;
}
