// What does encryption cost? Reads over TLS 1.3, by our server and by nbdkit (GnuTLS), over TCP and
// over a unix socket.
//   npm run bench:tls -- [--seconds 2] [--trials 5] [--json FILE]

import { rmSync, writeFileSync } from "node:fs";
import { makeCertificates } from "./support/certificates.mjs";
import { apply, buildLoad } from "./support/load.mjs";
import { readOptions } from "./support/options.mjs";
import { inTurns, Progress } from "./support/progress.mjs";
import { asyncnbd, nbdkit, withServer } from "./support/servers.mjs";
import { environment, median, spread } from "./support/statistics.mjs";

const options = readOptions(import.meta.url, {
  seconds: { type: "string", default: "2" },
  trials: { type: "string", default: "5" },
  json: { type: "string" },
});
const seconds = Number(options.seconds);

const certificates = makeCertificates();
const server = ["--tls=require", `--tls-certificates=${certificates}`, "memory", "256M"];
const servers = {
  nbdkit: nbdkit(...server),
  asyncnbd: asyncnbd(...server),
};

/** @type {readonly { transport: "tcp" | "unix", bytes: number, depth: number }[]} */
const loads = /** @type {const} */ (["tcp", "unix"]).flatMap((transport) => [
  { transport, bytes: 4096, depth: 1 },
  { transport, bytes: 4096, depth: 32 },
  { transport, bytes: 128 << 10, depth: 1 },
  { transport, bytes: 128 << 10, depth: 16 },
]);

buildLoad();
const results = [];
const trials = Number(options.trials);
const progress = new Progress("tls", loads.length * trials * Object.keys(servers).length);
console.log("reads/s over TLS 1.3 (spread)");
try {
  for (const { transport, bytes, depth } of loads) {
    const load = { bytes, depth, seconds, tls: true };
    const what = `${transport} ${bytes >> 10}K × ${depth}`;
    const begin = (/** @type {string} */ step) => progress.step(`${what}, ${step}`);
    const rates = await inTurns(servers, trials, begin, async (command) => {
      const run = await withServer(
        command,
        ({ where }) => apply(where, { ...load, warmUpSeconds: 0.2 }),
        transport,
      );
      return run.requests / run.seconds;
    });
    progress.clear();
    const peer = median(/** @type {number[]} */ (rates.nbdkit));
    for (const [name, list] of Object.entries(rates)) {
      const perSecond = median(list);
      results.push({ transport, bytes, depth, server: name, perSecond, spread: spread(list) });
      console.log(
        `${transport.padEnd(5)} ${`${bytes >> 10}K`.padStart(5)} × ${String(depth).padEnd(4)}` +
          `${name.padEnd(10)} ${Math.round(perSecond).toString().padStart(9)}` +
          ` (${(spread(list) * 100).toFixed(0).padStart(3)} %) ${(perSecond / peer).toFixed(2).padStart(6)}`,
      );
    }
  }
} finally {
  rmSync(certificates, { recursive: true });
}
if (options.json !== undefined)
  writeFileSync(
    options.json,
    JSON.stringify({ environment: environment(), seconds, trials, results }, null, 2),
  );
