// What the matrix is made of: a cell is one kind of load on one kind of disk, written as in
// "memory unix 4K 32 read 1": plugin, transport, size, depth, load, connections.

import { Misuse } from "../support/options.mjs";

/**
 * @typedef {typeof TRANSPORTS[number]} Transport
 * @typedef {keyof typeof KINDS} Kind
 *
 * @typedef {object} Cell
 * @property {string} plugin
 * @property {Transport} transport
 * @property {number} bytes of each request
 * @property {number} depth requests in flight on each connection
 * @property {Kind} kind
 * @property {number} connections
 */

export const TRANSPORTS = /** @type {const} */ (["unix", "tcp", "tls"]);

/** What the load generator is told. */
export const KINDS = /** @type {const} */ ({
  read: { readPercent: 100 },
  write: { readPercent: 0 },
  mix: { readPercent: 50 },
  fua: { readPercent: 0, others: "fua" },
  trim: { readPercent: 0, others: "trim" },
  zero: { readPercent: 0, others: "zero" },
});

const MAX_BYTES = 4 << 20;
/** @type {Readonly<Record<string, number>>} */
const UNITS = { K: 1 << 10, M: 1 << 20 };

/** The columns of the usual table: size, depth, load, connections. */
export const USUAL_COLUMNS = [
  ...["4K 1 read 1", "4K 1 write 1", "4K 32 read 1", "4K 32 write 1", "16K 16 read 1"],
  ...["64K 16 write 1", "128K 16 read 1", "128K 16 write 1", "512K 8 write 1"],
  ...["1M 4 read 1", "1M 4 write 1"],
];
export const USUAL_PLUGINS = ["memory", "file-tmpfs", "file-ext4", "async-file", "ram.ts"];
export const USUAL_TRANSPORTS = ["unix", "tcp"];

/** @param {number} bytes */
export function sizeName(bytes) {
  if (bytes % (1 << 20) === 0) return `${bytes >> 20}M`;
  return bytes % 1024 === 0 ? `${bytes >> 10}K` : String(bytes);
}

/** @param {string} text */
function parseSize(text) {
  const [, digits, unit = ""] = /^(\d+)([KM]?)$/.exec(text) ?? [];
  const bytes = Number(digits) * (UNITS[unit] ?? 1);
  if (Number.isNaN(bytes) || bytes < 512 || bytes > MAX_BYTES || bytes % 512 !== 0)
    throw new Misuse(`${text} is not a size: use multiples of 512 bytes up to 4M`);
  return bytes;
}

/** @param {string} text @param {string} what @param {number} most */
function parseCount(text, what, most) {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || count > most)
    throw new Misuse(`${what} ${text}: use a number from 1 to ${most}`);
  return count;
}

/**
 * @template {string} T
 * @param {string} text @param {string} what @param {readonly T[]} known
 */
function parseWord(text, what, known) {
  const word = known.find((one) => one === text);
  if (word === undefined) throw new Misuse(`${what} ${text}: known are ${known.join(", ")}`);
  return word;
}

/** @param {string} text @param {readonly string[]} plugins that there are @returns {Cell} */
export function parseCell(text, plugins) {
  const words = text.trim().split(/\s+/);
  if (words.length !== 6)
    throw new Misuse(`"${text}": a cell is PLUGIN TRANSPORT SIZE DEPTH LOAD CONNECTIONS`);
  const [plugin, transport, size, depth, kind, connections] =
    /** @type {[string, string, string, string, string, string]} */ (words);
  return {
    plugin: parseWord(plugin, "plugin", plugins),
    transport: parseWord(transport, "transport", TRANSPORTS),
    bytes: parseSize(size),
    depth: parseCount(depth, "depth", 1024),
    kind: parseWord(kind, "load", /** @type {Kind[]} */ (Object.keys(KINDS))),
    connections: parseCount(connections, "connections", 1024),
  };
}

/** @param {Cell} cell */
export const nameOf = ({ plugin, transport, bytes, depth, kind, connections }) =>
  [plugin, transport, sizeName(bytes), depth, kind, connections].join(" ");

/**
 * Where a cell stands in a table: plugin and transport are the row.
 * @param {string} name whose last word may be that the disk was cold
 */
export function placeOf(name) {
  const [plugin, transport, size, depth, kind, connections, ...more] = name.split(" ");
  const load = [kind, ...(connections === "1" ? [] : [`×${connections}`]), ...more];
  return { row: `${plugin} ${transport}`, column: `${size}×${depth} ${load.join(" ")}` };
}

/**
 * @typedef {object} Selection lists separated by commas, or `cells` by `|`
 * @property {string | undefined} [cells]
 * @property {string | undefined} [plugins]
 * @property {string | undefined} [transports]
 * @property {string | undefined} [sizes]
 * @property {string | undefined} [depths]
 * @property {string | undefined} [loads]
 * @property {string | undefined} [connections]
 */

/** The usual columns, or every combination of what is asked for. @param {Selection} selection */
function columnsOf({ sizes, depths, loads, connections }) {
  if ([sizes, depths, loads, connections].every((list) => list === undefined)) return USUAL_COLUMNS;
  const all = [sizes ?? "4K", depths ?? "1,32", loads ?? "read,write", connections ?? "1"];
  return all
    .map((list) => list.split(","))
    .reduce(
      (rows, list) => rows.flatMap((row) => list.map((word) => `${row} ${word}`.trim())),
      [""],
    );
}

/**
 * What is to be measured, in the order in which it is shown.
 * @param {Selection} selection
 * @param {readonly string[]} plugins that there are
 */
export function select(selection, plugins) {
  if (selection.cells !== undefined)
    return selection.cells.split("|").map((text) => parseCell(text, plugins));
  const columns = columnsOf(selection);
  const rows = (selection.plugins?.split(",") ?? USUAL_PLUGINS).flatMap((plugin) =>
    (selection.transports?.split(",") ?? USUAL_TRANSPORTS).map((word) => `${plugin} ${word}`),
  );
  return rows.flatMap((row) => columns.map((column) => parseCell(`${row} ${column}`, plugins)));
}
