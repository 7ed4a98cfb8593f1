// How fast is a disk in memory by its plugin's language: TypeScript, C, and Python and Perl under nbdkit?
//   npm run bench:plugins -- [--seconds 2] [--trials 5] [--json FILE]

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { apply, buildLoad } from "./support/load.mjs";
import { readOptions } from "./support/options.mjs";
import { inTurns, Progress } from "./support/progress.mjs";
import { asyncnbd, canRun, nbdkit, withServer } from "./support/servers.mjs";
import { environment, median, spread } from "./support/statistics.mjs";

const options = readOptions(import.meta.url, {
  seconds: { type: "string", default: "2" },
  trials: { type: "string", default: "5" },
  json: { type: "string" },
});
const seconds = Number(options.seconds);
const warmUpSeconds = 0.5; // and time for the compiler of JavaScript

/** @param {string} relative */
const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

/** nbdkit's plugins in other languages come in packages of their own. @param {string} plugin */
const nbdkitHas = (plugin) => canRun("nbdkit", "--dump-plugin", plugin);

/** @type {Record<string, import("./support/servers.mjs").Server>} */
const servers = {
  "nbdkit memory (C)": nbdkit("memory", "256M"),
  "ram.ts": asyncnbd(path("../examples/ram.ts"), "size=256M"),
  "asyncnbd memory (C)": asyncnbd("memory", "256M"),
  ...(nbdkitHas("python") && {
    "nbdkit python": nbdkit("python", path("ram.py"), "size=256M"),
  }),
  ...(nbdkitHas("perl") && {
    "nbdkit perl": nbdkit("perl", path("ram.pl"), "size=256M"),
  }),
};

/** @type {readonly { direction: "read" | "write", bytes: number, depth: number }[]} */
const loads = [
  .../** @type {const} */ (["read", "write"]).flatMap((direction) => [
    ...[1, 32, 128].map((depth) => ({ direction, bytes: 4096, depth })),
    { direction, bytes: 128 << 10, depth: 16 },
  ]),
];

buildLoad();
const results = [];
const trials = Number(options.trials);
const progress = new Progress("plugins", loads.length * trials * Object.keys(servers).length);
console.log("requests/s (spread), and as a ratio to nbdkit memory");
for (const load of loads) {
  const what = `${load.direction} ${load.bytes >> 10}K × ${load.depth}`;
  const begin = (/** @type {string} */ step) => progress.step(`${what}, ${step}`);
  const rates = await inTurns(servers, trials, begin, (server) =>
    withServer(server, async ({ where }) => {
      const run = await apply(where, {
        ...{ bytes: load.bytes, depth: load.depth, warmUpSeconds, seconds },
        readPercent: load.direction === "read" ? 100 : 0,
      });
      return run.requests / run.seconds;
    }),
  );
  progress.clear();
  const peer = median(/** @type {number[]} */ (rates["nbdkit memory (C)"]));
  for (const [server, list] of Object.entries(rates)) {
    const perSecond = median(list);
    results.push({ ...load, server, perSecond, spread: spread(list), ratio: perSecond / peer });
    console.log(
      `${load.direction.padEnd(5)} ${`${load.bytes >> 10}K`.padStart(5)} × ${String(load.depth).padEnd(4)}` +
        `${server.padEnd(20)} ${Math.round(perSecond).toString().padStart(9)}` +
        ` (${(spread(list) * 100).toFixed(0).padStart(3)} %) ${(perSecond / peer).toFixed(2).padStart(6)}`,
    );
  }
}
if (options.json !== undefined)
  writeFileSync(
    options.json,
    JSON.stringify({ environment: environment(), seconds, trials, results }, null, 2),
  );
