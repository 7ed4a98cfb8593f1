// How fast is asyncnbd/client? Random reads over TCP from `asyncnbd memory`, beside @vates/nbd-client
// and libnbd's Python. Ours checks every reply.
//   npm run bench:client -- [--seconds 2] [--trials 5] [--vates DIRECTORY] [--json FILE]
// DIRECTORY has @vates/nbd-client in its node_modules, unpacked with `npm pack` beside what it needs
// (@vates/read-chunk, promise-toolbox, @xen-orchestra/log, @vates/async-each, make-error, isutf8,
// lodash): its other dependencies do not install from the registry.

import { execFile } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { connect } from "../dist/client/index.js";
import { readOptions } from "./support/options.mjs";
import { asyncnbd, canRun, withServer } from "./support/servers.mjs";
import { environment, median, spread } from "./support/statistics.mjs";

const options = readOptions(import.meta.url, {
  seconds: { type: "string", default: "2" },
  trials: { type: "string", default: "5" },
  vates: { type: "string" },
  json: { type: "string" },
});

const path = (/** @type {string} */ file) => fileURLToPath(new URL(file, import.meta.url));
const python = "/usr/bin/python3";

const names = [
  "asyncnbd",
  "asyncnbd, simple",
  ...(options.vates === undefined ? [] : ["vates"]),
  ...(canRun(python, "-c", "import nbd") ? ["libnbd, Python"] : []),
];

/** @param {string} name @param {string} port @param {number} depth @param {number} bytes */
async function trial(name, port, depth, bytes) {
  const load = [port, depth, bytes, options.seconds].map(String);
  const [file, ...args] = name.startsWith("libnbd")
    ? [python, path("client.py"), ...load]
    : [process.execPath, path("client-load.mjs"), name, ...load, options.vates ?? ""];
  const { stdout } = await promisify(execFile)(file, args);
  return /** @type {{ requests: number, seconds: number, cpuSeconds: number }} */ (
    JSON.parse(stdout)
  );
}

/** What was never written is a hole, which takes no bytes to tell. @param {number} port */
async function fill(port) {
  const client = await connect({ host: "127.0.0.1", port });
  const bytes = randomFillSync(Buffer.alloc(2 ** 20));
  for (let at = 0; at < client.size; at += bytes.length) await client.write(at, bytes);
  await client.close();
}

const loads = [
  { bytes: 4096, depth: 1 },
  { bytes: 4096, depth: 32 },
  { bytes: 2 ** 20, depth: 1 },
  { bytes: 2 ** 20, depth: 8 },
];

const results = [];
console.log("reads/s (spread), and the client's CPU time for each");
for (const { bytes, depth } of loads) {
  /** @type {Map<string, { rates: number[], cpu: number[] }>} */
  const runs = new Map(names.map((name) => [name, { rates: [], cpu: [] }]));
  // Alternating, so that what else the machine does hits all alike.
  for (let i = 0; i < Number(options.trials); i++)
    for (const [name, { rates, cpu }] of runs) {
      const run = await withServer(
        asyncnbd("memory", "256M"),
        async ({ where }) => {
          await fill(Number(where));
          return trial(name, where, depth, bytes);
        },
        "tcp",
      );
      rates.push(run.requests / run.seconds);
      cpu.push((run.cpuSeconds / run.requests) * 1e6);
    }
  for (const [client, { rates, cpu }] of runs) {
    const perSecond = median(rates);
    const cpuUs = median(cpu);
    results.push({ client, bytes, depth, perSecond, spread: spread(rates), cpuUs });
    console.log(
      `${`${bytes >> 10}K`.padStart(5)} × ${String(depth).padEnd(3)} ${client.padEnd(17)}` +
        ` ${Math.round(perSecond).toString().padStart(8)}` +
        ` (${(spread(rates) * 100).toFixed(0).padStart(3)} %) ${cpuUs.toFixed(1).padStart(7)} µs`,
    );
  }
}
if (options.json !== undefined)
  writeFileSync(options.json, JSON.stringify({ environment: environment(), results }, null, 2));
