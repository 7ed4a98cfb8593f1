// README.md and docs/performance.md have the figures of the published run, bench/results/, as
// `npm run bench:documents` writes them; in README.md there are no others.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { heatMap } from "../../bench/matrix/heat-map.mjs";
import { report } from "../../bench/matrix/report.mjs";
import { summarise } from "../../bench/matrix/summary.mjs";
import { DOCUMENTS, placesIn, withFigures, withoutFigures } from "../../bench/report/documents.mjs";
import { FIGURES } from "../../bench/report/figures.mjs";
import { markdown } from "../../bench/report/markdown.mjs";

const here = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const read = (path: string): string => readFileSync(here(path), "utf8");

/** In the README's prose: versions, sizes in names, and what commands and protocols are called. */
const NOT_MEASURED = [
  ...[
    "Debian 12",
    "Node 20.17",
    "Node 20",
    "glibc 2.34",
    "x64",
    "arm64",
    "64-bit",
    "ext4",
    "qcow2",
  ],
  ...["two cores", "0.1.0", "4 KiB read"],
];

test.each(DOCUMENTS)("%s has the figures of the published run", (document) => {
  expect(read(document)).toBe(withFigures(read(document)));
});

test("each figure has a place, and each place a figure", () => {
  const places = DOCUMENTS.flatMap((document) => placesIn(read(document)));
  expect(places.sort()).toEqual(Object.keys(FIGURES).sort());
});

test("the README's figures are all of a published run", () => {
  for (const place of placesIn(read("README.md")))
    expect(existsSync(here(`bench/results/${FIGURES[place]?.from}`)), place).toBe(true);
  const prose = withoutFigures(read("README.md"))
    .replace(/^```.*?^```$/gms, "")
    .replace(/\]\(.*?\)/g, "");
  const others = NOT_MEASURED.reduce((text, words) => text.replaceAll(words, ""), prose);
  expect(others.match(/.*\d.*/g)).toBeNull();
});

test("the README is short, and begins with how to install it", () => {
  const text = read("README.md");
  expect(text.split("\n").length - 1).toBeLessThan(120);
  expect(/^```console\n(.*?)^```$/ms.exec(text)?.[1]).toMatch(/^\$ npm install -g /m);
});

test("the published report is of the published results", () => {
  const pictures = readdirSync(here("bench/results")).filter((name) => name.endsWith(".svg"));
  const results = JSON.parse(read("bench/results/results.json"));
  expect(read("bench/results/report.md")).toBe(markdown(results, pictures));
});

test("the published matrix is of its published results", () => {
  const results = JSON.parse(read("bench/results/matrix/results.json"));
  expect(read("bench/results/matrix/report.md")).toBe(report(results));
  expect(read("bench/results/matrix/matrix.svg")).toBe(heatMap(summarise(results)));
});

const environment = {
  ...{ commit: "1234567", date: "2026-01-02", cpu: "2 × fast", kernel: "6.1" },
  ...{ node: "v20.17.0", nbdkit: "nbdkit 1.32.5" },
};
const where = "2 × fast, Linux 6.1, Node v20.17.0, nbdkit 1.32.5.";

test("a run of the slow device becomes a table with the best possible rate", () => {
  const cell = { direction: "read", depth: 256, streams: 4, threads: 17, idleThreads: 12 };
  const servers = { serialised: 2, "nbdkit -t 16": 122, "nbdkit -t 256": 1899, ASYNC: 1972.4 };
  const cells = Object.entries(servers).map(([server, mibPerSecond]) => ({
    ...cell,
    ...{ server, mibPerSecond },
  }));
  const written = FIGURES["a slow device"]?.write({ environment, seconds: 2, cells });
  expect(written).toContain("\n| 4 × 256 | 2 | 122 | 1,899 | 1,972 | — | 2,000 |\n");
  expect(written).toContain("17 threads at most, 12 of them before the first client.");
  expect(written).toContain(`One run, 2 s each, commit 1234567, 2026-01-02; ${where}\n`);
});

test("a run of encryption becomes a table, with nbdkit's figures beside ours", () => {
  const load = { transport: "tcp", bytes: 4096, depth: 32 };
  const results = [
    { ...load, server: "nbdkit", perSecond: 106_000 },
    { ...load, server: "asyncnbd", perSecond: 355_000 },
    { ...load, depth: 1, server: "nbdkit", perSecond: 6400 },
    { ...load, depth: 1, server: "asyncnbd", perSecond: 3200 },
  ];
  const written = FIGURES.encryption?.write({ environment, seconds: 2, trials: 5, results });
  expect(written).toContain("\n| TCP, 4 KiB × 32 | 355 k | 106 k | 3.3 |\n");
  expect(written).toContain("\n| TCP, 4 KiB × 1 | 3.2 k | 6.4 k | 0.50 |\n");
  expect(written).toContain(`Medians of 5 trials of 2 s in one run, commit 1234567, 2026-01-02; `);
});

test("a run of plugins by language becomes a table of ratios, with gaps for missing plugins", () => {
  const load = { direction: "write", bytes: 128 << 10, depth: 16, perSecond: 1 };
  const results = [
    { ...load, server: "nbdkit memory (C)", ratio: 1 },
    { ...load, server: "ram.ts", ratio: 0.714 },
    { ...load, server: "asyncnbd memory (C)", ratio: 1.13 },
    { ...load, server: "nbdkit perl", ratio: 0.78 },
  ];
  const written = FIGURES.languages?.write({ environment, seconds: 2, trials: 3, results });
  expect(written).toContain("\n| write 128 KiB × 16 | 0.71 | 1.13 | — | 0.78 |\n");
});
