// The matrix of benchmarks: what is chosen by words, what fits into its time, and what its pairs say.

import { expect, test } from "vitest";
import { nameOf, parseCell, placeOf, select } from "../../bench/matrix/cells.mjs";
import { heatMap } from "../../bench/matrix/heat-map.mjs";
import { plan, roundSeconds } from "../../bench/matrix/plan.mjs";
import { report } from "../../bench/matrix/report.mjs";
import { busySide, merge, type Results, summarise } from "../../bench/matrix/summary.mjs";
import { witnessed } from "../../bench/matrix/witness.mjs";

const PLUGINS = ["memory", "file-tmpfs", "file-ext4", "async-file", "ram.ts"];

test("a cell is read from words and written as the same words", () => {
  const name = "file-tmpfs tcp 128K 16 fua 64";
  const cell = parseCell(` ${name.replaceAll(" ", "  ")} `, PLUGINS);
  expect(cell).toMatchObject({ bytes: 128 << 10, depth: 16, kind: "fua", connections: 64 });
  expect(nameOf(cell)).toBe(name);
  expect(placeOf(name)).toEqual({ row: "file-tmpfs tcp", column: "128K×16 fua ×64" });
  expect(placeOf("memory unix 512 1 read 1").column).toBe("512×1 read");
  expect(placeOf("memory unix 512 1 read 1 cold").column).toBe("512×1 read cold");
});

test.each([
  ["memory unix 4K 32 read", "PLUGIN TRANSPORT"],
  ["floppy unix 4K 32 read 1", "plugin floppy"],
  ["memory pipe 4K 32 read 1", "transport pipe"],
  ["memory unix 8M 32 read 1", "8M is not a size"],
  ["memory unix 1000 32 read 1", "1000 is not a size"],
  ["memory unix 4K 0 read 1", "depth 0"],
  ["memory unix 4K 1 erase 1", "load erase"],
  ["memory unix 4K 1 read 2000", "connections 2000"],
])("%s is no cell", (text, message) => {
  expect(() => parseCell(text, PLUGINS)).toThrow(message);
});

test("without words it is five plugins, two transports and eleven loads", () => {
  const cells = select({}, PLUGINS).map(nameOf);
  expect(cells).toHaveLength(5 * 2 * 11);
  expect(new Set(cells).size).toBe(cells.length);
  expect(cells[0]).toBe("memory unix 4K 1 read 1");
});

test("lists of sizes, depths, loads and connections are combined", () => {
  const lists = { sizes: "512,4M", depths: "1", loads: "trim", connections: "1,64" };
  const cells = select({ plugins: "memory", transports: "tls", ...lists }, PLUGINS);
  expect(cells.map(nameOf)).toEqual([
    ...["memory tls 512 1 trim 1", "memory tls 512 1 trim 64"],
    ...["memory tls 4M 1 trim 1", "memory tls 4M 1 trim 64"],
  ]);
});

const work = { pairs: 100, servers: 20, limits: 60 };

test.each([3, 9, 18, 60])("what is planned for %i minutes takes no longer", (minutes) => {
  const { pairs, seconds } = plan(work, 60 * minutes, {});
  expect(pairs * roundSeconds(work, seconds)).toBeLessThanOrEqual(60 * minutes);
});

test("where time is short, measurements become shorter before there are fewer than six pairs", () => {
  const available = 6 * roundSeconds(work, 0.2);
  expect(plan(work, available, {})).toEqual({ pairs: 6, seconds: 0.2 });
  expect(plan(work, available, { seconds: 0.3 }).pairs).toBeLessThan(6);
  expect(plan(work, available, { pairs: 20, seconds: 1 })).toEqual({ pairs: 20, seconds: 1 });
});

const side = (perSecond: number, server: number | null = 0.5, client = 0.5) => ({
  ...{ perSecond, server, client },
});
const CELL = "memory unix 4K 32 read 1";
const pairsOf = (ratios: readonly number[], cell = CELL) =>
  ratios.map((ratio) => ({
    ...{ cell, peer: "nbdkit" as const, ours: side(1000 * ratio), theirs: side(1000) },
  }));
const run = { environment: { commit: "1234567" }, settings: { seconds: 0.3 } };
const resultsOf = (pairs: Results["pairs"]): Results => ({ runs: [run], pairs, gaps: [] });
const only = (pairs: Results["pairs"]) => {
  const [summary] = summarise(resultsOf(pairs));
  if (summary === undefined) throw new Error("nothing was summarised");
  return summary;
};

test.each([
  ["behind", [0.7, 0.8, 0.9, 0.75, 0.85, 0.95]],
  ["open", [0.7, 0.8, 0.9, 0.75, 0.85, 1.05]],
  ["ahead", [1.1, 1.2, 1.3, 1.4, 1.5, 1.6]],
  ["open", [0.7, 0.8, 0.9, 0.75, 0.85]], // five are not enough
])("a cell is %s with ratios of %j", (verdict, ratios) => {
  const summary = only(pairsOf(ratios));
  expect(summary.verdict).toBe(verdict);
  expect(summary.interval).toEqual([Math.min(...ratios), Math.max(...ratios)]);
});

test("processor time is that of a request, and unknown where nobody knows it", () => {
  const [first] = pairsOf([2]);
  if (first === undefined) throw new Error("there is no pair");
  const known = only([{ ...first, ours: side(100_000, 1, 0.5) }]);
  expect([known.ours.serverUs, known.ours.clientUs]).toEqual([10, 5]);
  expect(only([{ ...first, ours: side(1000, null) }]).ours.serverUs).toBeNaN();
});

test.each([
  [0.95, 0.2, "server"],
  [0.5, 0.95, "client"],
  [1.4, 0.99, "both"],
  [0.5, 0.5, "neither"],
  [null, 0.5, "unknown"],
  [null, 0.95, "client"],
])(
  "with %s of a processor for the server and %d for the client, %s is busy",
  (server, client, who) => {
    expect(busySide(server, client)).toBe(who);
  },
);

test("the limit is that of the rounds in which it was measured", () => {
  const pairs = pairsOf([1, 1, 1]).map((pair, i) => ({
    ...pair,
    ...(i === 0 && { limit: side(4000) }),
  }));
  expect(only(pairs).ofLimit).toBe(0.25);
});

test("pairs of several runs are one cell's", () => {
  const one = resultsOf(pairsOf([1, 1, 1]));
  const merged = merge([one, resultsOf(pairsOf([2, 2, 2]))]);
  expect(merged.runs).toHaveLength(2);
  expect(summarise(merged)).toMatchObject([{ count: 6, ratio: 1.5 }]);
});

test("a dozen cells at most are shown to another client, from the first to the last plugin", () => {
  const cells = witnessed(select({}, PLUGINS));
  expect(cells).toHaveLength(12);
  expect(new Set(cells.map(({ plugin }) => plugin)).size).toBe(PLUGINS.length);
  const encrypted = select({ plugins: "memory", transports: "tls" }, PLUGINS);
  expect(witnessed(encrypted)).toEqual([]);
});

test("the picture has each cell's number, and a frame around one that is certainly behind", () => {
  const behind = pairsOf([0.7, 0.7, 0.7, 0.7, 0.7, 0.7]);
  const ahead = pairsOf([12.34, 12.34], "ram.ts tcp 1M 4 write 1").map((pair) => ({
    ...pair,
    limit: side(20_000),
  }));
  const svg = heatMap(summarise(resultsOf([...behind, ...ahead])));
  expect(svg.match(/class="behind"/g)).toHaveLength(1);
  expect(svg.match(/>(0\.70|12\.3|62 %)</g)).toEqual([">0.70<", ">12.3<", ">62 %<"]);
  expect(svg).toContain(">memory unix<");
  expect(svg).toContain(">ram.ts tcp<");
});

test("the report tells of cells behind, of connections left behind, and of what was not measured", () => {
  const slow = pairsOf([0.7, 0.7, 0.7, 0.7, 0.7, 0.7]);
  const many = pairsOf([1], "memory tcp 4K 32 read 64").map((pair) => ({
    ...pair,
    ours: { ...pair.ours, least: 0.4 },
    theirs: { ...pair.theirs, least: 0.9 },
  }));
  const why = "nbdkit does not offer it";
  const gap = {
    cell: "file-ext4 unix 4K 1 trim 1",
    peer: "nbdkit" as const,
    why,
    isFailure: false,
  };
  const text = report({ ...resultsOf([...slow, ...many]), gaps: [gap] });
  expect(text).toContain(`certainly behind in 1.\n\n- ${CELL}, against nbdkit: 0.70 (0.70–0.70)`);
  expect(text).toContain("| memory tcp 4K 32 read 64 | nbdkit | 0.40 (missed) | 0.90 |");
  expect(text).toContain(`- ${gap.cell}, against nbdkit: ${why}\n`);
});
