// A link with latency, where the kernel has none to offer: TCP through here arrives later by a set
// time in each direction, in order, and whatever is behind it in flight.
//   node bench/support/delay-proxy.mjs LISTEN_PORT TARGET_PORT ONE_WAY_MS

import { spawn } from "node:child_process";
import { connect, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { freePort, untilListening } from "./nginx.mjs";

const file = fileURLToPath(import.meta.url);
/** Timers have ticks of a millisecond: what is due is on time by the nearest one. */
const HALF_TICK_MS = 0.5;

/** All lines that are under way, of all connections, wait for one timer. */
class Late {
  /** @type {{ dueMs: number, arrive: () => void }[]} in the order of their arrival */
  #waiting = [];
  #first = 0;
  #isRunning = false;

  /** @param {number} delayMs */
  constructor(delayMs) {
    this.delayMs = delayMs;
  }

  /** @param {() => void} arrive */
  add(arrive) {
    this.#waiting.push({ dueMs: performance.now() + this.delayMs, arrive });
    if (!this.#isRunning) this.#run();
  }

  #run() {
    const now = performance.now();
    for (let next = this.#waiting[this.#first]; next && next.dueMs <= now + HALF_TICK_MS; ) {
      next.arrive();
      next = this.#waiting[++this.#first];
    }
    const next = this.#waiting[this.#first];
    this.#isRunning = next !== undefined;
    if (next === undefined) {
      this.#waiting = [];
      this.#first = 0;
    } else {
      setTimeout(() => this.#run(), Math.max(0, next.dueMs - now));
    }
  }
}

/** @param {import("node:net").Socket} from @param {import("node:net").Socket} to @param {Late} late */
function carry(from, to, late) {
  from.on("data", (bytes) => late.add(() => void to.write(bytes)));
  from.on("end", () => late.add(() => void to.end()));
  from.on("error", () => to.destroy());
}

/** @param {number} listen @param {number} target @param {number} delayMs */
function serve(listen, target, delayMs) {
  const late = new Late(delayMs);
  const options = { allowHalfOpen: true, noDelay: true };
  createServer(options, (near) => {
    const far = connect({ port: target, host: "127.0.0.1", ...options });
    carry(near, far, late);
    carry(far, near, late);
  }).listen(listen, "127.0.0.1");
}

/**
 * Runs `use` with a port from which the target's is that far away.
 * @template T
 * @param {number} target
 * @param {number} oneWayMs
 * @param {(port: number) => Promise<T>} use
 */
export async function withDelay(target, oneWayMs, use) {
  const port = await freePort();
  const words = [port, target, oneWayMs].map(String);
  const child = spawn(process.execPath, [file, ...words], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    await untilListening(port, () => child.exitCode !== null);
    return await use(port);
  } finally {
    child.kill();
    await ended;
  }
}

if (process.argv[1] === file) {
  const [, , listen, target, oneWayMs] = process.argv.map(Number);
  serve(Number(listen), Number(target), Number(oneWayMs));
}
