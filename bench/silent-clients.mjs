// What clients that fall silent in the middle cost others: an established client's reads of 512
// bytes, then its write of 16 MiB, and the server's memory, beside so many of them.
//   node bench/silent-clients.mjs [--command MAIN.js] [--clients 5,17,100,1000] [--seconds 3]
//        [--attacks header,half,unread] [--backends memory,file,…] ["--options=--max-in-flight=64M"]

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  firstOption,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_OPT_EXPORT_NAME,
  request,
} from "./support/nbd.mjs";
import { numbersOf, readOptions, wordsOf } from "./support/options.mjs";

const options = readOptions(import.meta.url, {
  command: {
    type: "string",
    default: fileURLToPath(new URL("../dist/cli/main.js", import.meta.url)),
  },
  clients: { type: "string", default: "5,17,100,1000" },
  seconds: { type: "string", default: "3" },
  attacks: { type: "string", default: "header,half,unread" },
  backends: { type: "string", default: "memory,file,async-file,delay-memory,ram.ts,filter" },
  options: { type: "string", default: "" },
});

const MIB = 2 ** 20;
const MEASURE_MS = 1000 * Number(options.seconds);
const SETTLE_MS = 4000;
const LARGE_BYTES = 16 * MIB;
const LARGE_MS = 90_000;

const directory = mkdtempSync(join(tmpdir(), "silent-clients-"));
const image = join(directory, "image");
writeFileSync(image, "");
truncateSync(image, 1024 * MIB);
const example = (/** @type {string} */ name) =>
  fileURLToPath(new URL(`../examples/${name}`, import.meta.url));
const pass = fileURLToPath(new URL("../test/support/pass.ts", import.meta.url));

/** @type {Record<string, string[]>} */
const backends = {
  memory: ["memory", "1G"],
  file: ["file", image],
  "async-file": ["async-file", image],
  "delay-memory": ["delay-memory", "1G", "delay=1ms"],
  "ram.ts": [example("ram.ts"), "size=1G"],
  filter: [`--filter=${pass}`, "memory", "1G"],
};

/** The whole handshake, blind: client flags, then NBD_OPT_EXPORT_NAME. */
const handshake = firstOption(NBD_OPT_EXPORT_NAME);
const GREETING_BYTES = 18 + 10;

/** @type {Record<string, () => Buffer>} */
const attacks = {
  header: () => request(NBD_CMD_WRITE, 0, 64 * MIB),
  half: () => Buffer.concat([request(NBD_CMD_WRITE, 0, 64 * MIB), Buffer.alloc(32 * MIB)]),
  unread: () =>
    Buffer.concat(Array.from({ length: 300 }, (_, i) => request(NBD_CMD_READ, i * MIB, MIB))),
};

const sleep = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function silentClient(/** @type {string} */ path, /** @type {Buffer} */ bytes) {
  const socket = connect(path);
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.pause();
  socket.write(handshake);
  socket.write(bytes); // all clients share it
  return socket;
}

/** Reads of 512 bytes, one after the other. */
class Established {
  #wanted = 0;
  #received = 0;
  /** @type {() => void} */
  #wake = () => {};

  constructor(/** @type {import("node:net").Socket} */ socket) {
    this.socket = socket;
    socket.on("data", (chunk) => {
      this.#received += chunk.length;
      if (this.#received >= this.#wanted) this.#wake();
    });
  }

  static async open(/** @type {string} */ path) {
    const client = new Established(connect(path));
    client.socket.write(handshake);
    if (!(await client.receive(GREETING_BYTES, 20_000))) throw new Error("no greeting");
    return client;
  }

  /** False: not in time. */
  async receive(/** @type {number} */ bytes, /** @type {number} */ timeoutMs) {
    this.#wanted += bytes;
    if (this.#received >= this.#wanted) return true;
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
    });
    const arrived = new Promise((resolve) => {
      this.#wake = () => resolve(true);
    });
    const result = await Promise.race([arrived, late]);
    clearTimeout(timer);
    return result;
  }

  /** Milliseconds of each read; the last one is Infinity if it had no answer in 15 s. */
  async measure(/** @type {number} */ forMs) {
    const times = [];
    const end = performance.now() + forMs;
    while (performance.now() < end) {
      const start = performance.now();
      this.socket.write(request(NBD_CMD_READ, 4096, 512));
      if (!(await this.receive(16 + 512, 15_000))) return [...times, Number.POSITIVE_INFINITY];
      times.push(performance.now() - start);
      await sleep(1);
    }
    return times;
  }

  /** Milliseconds of a write that needs memory of which others may have all; or Infinity. */
  async writeLarge() {
    const start = performance.now();
    this.socket.write(request(NBD_CMD_WRITE, 0, LARGE_BYTES));
    this.socket.write(Buffer.alloc(LARGE_BYTES));
    return (await this.receive(16, LARGE_MS))
      ? performance.now() - start
      : Number.POSITIVE_INFINITY;
  }
}

function memoryMib(/** @type {number} */ pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const of = (/** @type {string} */ key) =>
    Number(new RegExp(`${key}:\\s+(\\d+)`).exec(status)?.[1]);
  return { resident: Math.round(of("RssAnon") / 1024), threads: of("Threads") };
}

async function waitForSocket(/** @type {string} */ path) {
  for (;;) {
    const socket = connect(path);
    const found = await new Promise((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    socket.destroy();
    if (found) return;
    await sleep(20);
  }
}

async function trial(
  /** @type {string} */ backend,
  /** @type {string} */ attack,
  /** @type {number} */ clients,
) {
  const path = join(directory, "sock");
  rmSync(path, { force: true });
  const extra = options.options.split(" ").filter((word) => word !== "");
  const args = [options.command, "-f", "-U", path, ...extra, ...(backends[backend] ?? [])];
  const server = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "ignore"] });
  const pid = Number(server.pid);
  const silent = [];
  try {
    await waitForSocket(path);
    const established = await Established.open(path);
    await established.measure(100);
    const before = memoryMib(pid).resident;
    const bytes = attacks[attack]?.() ?? Buffer.alloc(0);
    let peak = 0;
    let threads = 0;
    const watch = setInterval(() => {
      const now = memoryMib(pid);
      peak = Math.max(peak, now.resident);
      threads = Math.max(threads, now.threads);
    }, 50);
    for (let i = 0; i < clients; i++) silent.push(await silentClient(path, bytes));
    await sleep(500);
    const times = (await established.measure(MEASURE_MS)).sort((a, b) => a - b);
    const writeMs = await established.writeLarge();
    clearInterval(watch);
    for (const socket of silent) socket.destroy();
    await sleep(SETTLE_MS);
    const after = memoryMib(pid).resident;
    const p99 = times[Math.floor(times.length * 0.99)];
    const maximum = times.at(-1);
    const ms = (/** @type {number} */ value = 0) =>
      value === Number.POSITIVE_INFINITY ? "never" : value.toFixed(1);
    console.log(
      `${backend.padEnd(13)} ${attack.padEnd(7)} ${String(clients).padStart(5)}  ` +
        `p99 ${ms(p99).padStart(7)} ms  max ${ms(maximum).padStart(7)} ms  ` +
        `write ${ms(writeMs).padStart(7)} ms  ` +
        `anon ${before} -> ${peak} -> ${after} MiB  threads ${threads}`,
    );
    established.socket.destroy();
  } catch (error) {
    console.log(`${backend} ${attack} ${clients}: ${error}`);
  } finally {
    for (const socket of silent) socket.destroy();
    server.kill("SIGKILL");
    await once(server, "exit");
  }
}

for (const backend of wordsOf("backends", options.backends, Object.keys(backends)))
  for (const attack of wordsOf("attacks", options.attacks, Object.keys(attacks)))
    for (const clients of numbersOf("clients", options.clients))
      await trial(backend, attack, clients);
rmSync(directory, { recursive: true });
