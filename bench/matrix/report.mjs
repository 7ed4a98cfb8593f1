// The matrix in words and tables, as Markdown.

import { table } from "../report/markdown.mjs";
import { placeOf } from "./cells.mjs";
import { summarise } from "./summary.mjs";

/**
 * @typedef {import("./summary.mjs").Results} Results
 * @typedef {import("./summary.mjs").Summary} Summary
 */

/** No connection of several is to have less than so much of what the median one has. */
const LEAST_SHARE = 0.5;

/** Infinite, if the other one answered nothing at all. @param {number} value */
const ratio = (value) => (Number.isFinite(value) ? value.toFixed(2) : "∞");
const grouped = (/** @type {number} */ value) => Math.round(value).toLocaleString("en-US");
const us = (/** @type {number} */ value) =>
  !Number.isFinite(value) ? "—" : value.toPrecision(value < 10 ? 2 : 3);
const percent = (/** @type {number | undefined} */ part) =>
  part === undefined ? "—" : `${Math.round(100 * part)} %`;
const interval = (/** @type {Summary} */ summary) => summary.interval.map(ratio).join("–");

const HOW = `Ratios are requests a second of asyncnbd to the other server's: the median of pairs, each measured
one right after the other, and the interval in which the median lies with 95 % certainty, by the order
of the pairs' ratios alone (as in the sign test); with fewer than six pairs, their least and greatest.
*Behind* is a cell whose interval ends below 1.

*Of the limit* is what asyncnbd reaches of a program that moves the same bytes in the same pieces between
two processes that know beforehand what comes next: no protocol, one thread at each end, and data where
the disk's are, in memory or in the pages of a file. Where pages are better sent by reference, it does so.
Where most of the work is the disk's (FUA, trims and zeroes of files, \`O_DIRECT\`, Ceph) or encryption,
there is none. It is no bound that nobody can pass: a server with more threads can.

*Busy* is who had no time left, which is whom the other waits for: the client's only thread, or the
server, whose processor time is at least nine tenths of one processor. *Neither* is where they wait for each
other, for the disk, or for a processor that something else has: where the load average before the run was
not small, other work took part in it. With one request in flight a server is busy that looks for the next
one instead of sleeping. nbd-server has a process for each client, so what it takes is not known. The client
is bench/load, which keeps no data.`;

/** @param {readonly Summary[]} summaries */
function cellTable(summaries) {
  const rows = summaries.map((summary) => {
    const { cell, ours, theirs, verdict, count, ofLimit } = summary;
    const value = ratio(summary.ratio);
    return [
      placeOf(cell).column,
      verdict === "behind" ? `**${value}**` : value,
      interval(summary),
      String(count),
      ...[grouped(ours.perSecond), grouped(theirs.perSecond), percent(ofLimit)],
      `${us(ours.serverUs)} / ${us(theirs.serverUs)}`,
      `${us(ours.clientUs)} / ${us(theirs.clientUs)}`,
      `${ours.busy} / ${theirs.busy}`,
    ];
  });
  const peer = summaries[0]?.peer ?? "";
  const of = (/** @type {string} */ what) => `${what}, asyncnbd / ${peer}`;
  return table(
    [
      ...["load", "ratio", "95 %", "pairs", "asyncnbd/s", `${peer}/s`, "of the limit"],
      ...[of("server µs a request"), of("client µs"), of("busy")],
    ],
    rows,
  );
}

/** @param {readonly Summary[]} summaries */
function cellTables(summaries) {
  const names = summaries.map(({ cell, peer }) => `${placeOf(cell).row}, against ${peer}`);
  return [...new Set(names)].flatMap((name) => [
    `### ${name}`,
    cellTable(summaries.filter((_, i) => names[i] === name)),
  ]);
}

/** @param {readonly Summary[]} summaries */
export function outcome(summaries) {
  const count = (/** @type {Summary["verdict"]} */ wanted) =>
    summaries.filter(({ verdict }) => verdict === wanted).length;
  return `Of ${summaries.length} cells, asyncnbd is certainly ahead in ${count("ahead")} and certainly behind in ${count("behind")}.`;
}

/** @param {readonly Summary[]} summaries */
function verdicts(summaries) {
  const behind = summaries.filter(({ verdict }) => verdict === "behind");
  const all = outcome(summaries);
  const list = behind.map(
    (summary) =>
      `- ${summary.cell}, against ${summary.peer}: ${ratio(summary.ratio)} (${interval(summary)})`,
  );
  return list.length === 0 ? all : `${all}\n\n${list.join("\n")}`;
}

/** @param {readonly Summary[]} summaries */
function fairness(summaries) {
  const rows = summaries.flatMap(({ cell, peer, ours, theirs }) => {
    if (ours.least === undefined || theirs.least === undefined) return [];
    const isMet = ours.least >= LEAST_SHARE;
    return [[cell, peer, `${ratio(ours.least)}${isMet ? "" : " (missed)"}`, ratio(theirs.least)]];
  });
  if (rows.length === 0) return [];
  return [
    "## Many connections",
    "Requests that the slowest connection got, as a part of what the median one got: medians of the " +
      `pairs. It is to be ${LEAST_SHARE} at least.`,
    table(["cell", "against", "asyncnbd", "the other"], rows),
  ];
}

/** @param {readonly Summary[]} summaries */
function witnesses(summaries) {
  const rows = summaries.flatMap(({ cell, peer, ratio: ours, witness }) =>
    witness === undefined
      ? []
      : [[cell, peer, ratio(witness.ratio), String(witness.count), ratio(ours)]],
  );
  if (rows.length === 0) return [];
  return [
    "## fio as a witness",
    "The same ratios by a client that others have written, fio's engine for NBD (libnbd). It takes " +
      "more time for a request, so where it is what is busy, ratios are nearer to 1.",
    table(["cell", "against", "by fio", "pairs", "by bench/load"], rows),
  ];
}

/** @param {Results} results */
function gaps({ gaps }) {
  if (gaps.length === 0) return [];
  const lines = gaps.map(
    ({ cell, peer, why }) => `- ${cell}, against ${peer}: ${why.split("\n")[0]}`,
  );
  return ["## Not measured", lines.join("\n")];
}

/** @param {Results} results */
export function report(results) {
  const summaries = summarise(results);
  const runs = results.runs.map(({ environment, settings }) => {
    const said = Object.entries({ ...environment, ...settings }).map(
      ([key, value]) => `${key} ${value}`,
    );
    return `- ${said.join(", ")}`;
  });
  const sections = [
    "# asyncnbd beside other servers, cell by cell",
    "Written by `npm run bench:matrix`; `results.json` has all of it.",
    ...(summaries.length === 0 ? [] : ["![ratios by plugin, transport and load](matrix.svg)"]),
    ...[verdicts(summaries), HOW, "Measured in these runs:", runs.join("\n")],
    ...["## Cells", ...cellTables(summaries)],
    ...[...fairness(summaries), ...witnesses(summaries), ...gaps(results)],
  ];
  return `${sections.join("\n\n")}\n`;
}
