// Verified load through five filters, ours, nbdkit's and middleware, in front of a file: clients are
// killed in the middle, and so is the server. What a client has been told is on the disk is there
// when the server is started again. LOAD_SEED is the first of LOAD_RUNS stacks drawn at random.

import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFailed, test } from "vitest";
import { SECTOR_BYTES } from "../support/disk-model.js";
import { FlushedModel, type Written } from "../support/flushed-model.js";
import { COMPLAINT, hostileMiddleware } from "../support/hostile-layers.js";
import { CMD, EXPORT_FLAG, FLAG } from "../support/protocol.js";
import { type Random, randomOf } from "../support/random.js";
import {
  debianFilter,
  debianPlugin,
  eventually,
  type RunningServer,
  sanitizer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";
import { StrictClient, type StrictRequest } from "../support/strict-client.js";

const FIRST_SEED = Number(process.env.LOAD_SEED ?? "1");
const RUNS = Number(process.env.LOAD_RUNS ?? "2");
/** Servers, one after the other, of one disk. */
const SERVERS = sanitizer === undefined ? 5 : 3;
const CLIENTS = 3;
const REGION_BYTES = 256 << 10; // of each client
const SECTORS = REGION_BYTES / SECTOR_BYTES;
const OFFSET_BYTES = 64 << 10; // where the disk begins, behind the filter "offset"

const middleware = (seed: number): string => {
  const path = join(temporaryDirectory(), "hostile.mjs");
  writeFileSync(path, hostileMiddleware(seed));
  return path;
};

/** Filters by name, and the parameters that the first of a kind gets. */
const FILTERS: Readonly<Record<string, readonly string[]>> = {
  blocksize: ["minblock=4K", "maxdata=32K"],
  cache: ["cache=writeback", "cache-max-size=1M", "cache-min-block-size=8K"],
  cacheextents: [],
  delay: ["wdelay=1ms", "delay-flush=2ms"],
  fua: ["fuamode=emulate"],
  log: ["logfile=/dev/null"],
  "multi-conn": ["multi-conn-mode=emulate"],
  noparallel: ["serialize=requests"],
  nozero: ["zeromode=emulate"],
  protect: [`protect=${OFFSET_BYTES + CLIENTS * REGION_BYTES}-`],
  readahead: [],
  retry: ["retries=2", "retry-delay=1ms"],
  "retry-request": ["retry-request-retries=2", "retry-request-delay=1ms"],
};
const NBDKITS = ["nofilter", "blocksize", "cacheextents", "fua", "nozero", "readahead", "stats"];

interface Stack {
  readonly filters: readonly string[];
  /** One of which may be in parameters of another filter's. */
  readonly parameters: readonly string[];
  readonly plugin: string;
}

/** "so:NAME" is nbdkit's, "middleware" is hostile, any other name ours. */
function stackOf(plugin: string, ...names: readonly string[]): Stack {
  const parameters = new Map<string, string>();
  const filters = names.map((name, i) => {
    const own = name.replace(/^so:/, "");
    for (const word of name === "offset" ? [`offset=${OFFSET_BYTES}`] : (FILTERS[own] ?? []))
      parameters.set(word.split("=")[0] as string, word);
    if (own === "stats") parameters.set("statsfile", "statsfile=/dev/null");
    if (name === "middleware") return middleware(i + 1);
    return name === own ? name : debianFilter(own);
  });
  return { filters, parameters: [...parameters.values()], plugin };
}

function randomStack(random: Random): Stack {
  const ours = Object.keys(FILTERS);
  const names = Array.from({ length: 5 }, () => {
    const kind = random(5);
    if (kind === 0) return "middleware";
    return kind === 1
      ? `so:${NBDKITS[random(NBDKITS.length)]}`
      : (ours[random(ours.length)] as string);
  });
  return stackOf(["file", "async-file", debianPlugin("file")][random(3)] as string, ...names);
}

class Load {
  readonly model = new FlushedModel(REGION_BYTES);
  readonly #random: Random;
  readonly #base: bigint;

  constructor(random: Random, index: number) {
    this.#random = random;
    this.#base = BigInt(index * REGION_BYTES);
  }

  /** Until the server goes away. */
  async run(server: RunningServer): Promise<void> {
    while (await this.#live(server));
  }

  /** One connection; false: the server has gone. */
  async #live(server: RunningServer): Promise<boolean> {
    let client: StrictClient;
    try {
      client = await StrictClient.connect(server.socket, { style: "structured" });
    } catch {
      return false;
    }
    if ((client.flags & EXPORT_FLAG.CAN_MULTI_CONN) === 0) this.model.forgetUnflushed();
    for (let batches = this.#random(60); batches > 0; batches--) {
      const written = this.#plan();
      if (!(await this.#runBatch(client, written))) return false;
    }
    return this.#die(server, client);
  }

  /** In the middle of a batch; waits until what it has asked for is over. */
  async #die(server: RunningServer, client: StrictClient): Promise<boolean> {
    const gone = (): number => server.stderr().split("disconnected").length;
    const before = gone();
    const written = this.#plan();
    for (const one of written) this.model.sent(one);
    client.requests(...written.map((one) => this.#request(one, 0))).catch(() => {});
    await new Promise(setImmediate);
    client.raw.socket.destroy();
    let hasEnded = false;
    void server.ended.then(() => {
      hasEnded = true;
    });
    await eventually("its end", () => (hasEnded || gone() > before ? true : undefined));
    return !hasEnded;
  }

  /** Ranges of their own, each full of one byte. */
  #plan(): Written[] {
    const edges = new Set(
      Array.from({ length: 2 + this.#random(8) }, () => this.#random(SECTORS + 1)),
    );
    const sorted = [...edges].sort((a, b) => a - b);
    return sorted.slice(1).flatMap((end, i) => {
      const offset = sorted[i] as number;
      const length = Math.min(end - offset, 1 + this.#random(100));
      return this.#random(3) === 0 ? [] : [{ offset, length, byte: this.#random(256) }];
    });
  }

  #request({ offset, length, byte }: Written, flags: number): StrictRequest {
    const payload = Buffer.alloc(length * SECTOR_BYTES, byte);
    return { type: CMD.WRITE, offset: this.#at(offset), payload, flags };
  }

  #at(sector: number): bigint {
    return this.#base + BigInt(sector * SECTOR_BYTES);
  }

  /** Writes, perhaps with a flush at the same time, then a read. False: the server has gone. */
  async #runBatch(client: StrictClient, written: readonly Written[]): Promise<boolean> {
    const { model } = this;
    const isDurable = (client.flags & EXPORT_FLAG.SEND_FUA) !== 0 && this.#random(6) === 0;
    const flags = isDurable ? FLAG.FUA : 0;
    const requests = written.map((one) =>
      one.byte === 0 && (client.flags & EXPORT_FLAG.SEND_WRITE_ZEROES) !== 0
        ? { ...this.#rangeOf(one), type: CMD.WRITE_ZEROES, flags }
        : this.#request(one, flags),
    );
    const flushed = this.#random(3) === 0 ? model.unflushed : undefined;
    if (flushed !== undefined) requests.push({ type: CMD.FLUSH });
    for (const one of written) model.sent(one);
    try {
      const replies = await client.requests(...requests);
      if (flushed !== undefined && replies.at(-1)?.error === 0) model.hasFlushed(flushed);
      for (const [i, one] of written.entries())
        if (replies[i]?.error === 0) model.acknowledged(one, isDurable);
      const [offset, length] = [this.#random(SECTORS - 64), 1 + this.#random(64)];
      const range = this.#rangeOf({ offset, length, byte: 0 });
      const { error, data } = await client.request({ type: CMD.READ, ...range });
      if (error === 0) model.checkRead(offset, data);
      return true;
    } catch (error) {
      if (/sector|rule/.test(String(error))) throw error;
      return false;
    }
  }

  #rangeOf({ offset, length }: Written): { offset: bigint; length: number } {
    return { offset: this.#at(offset), length: length * SECTOR_BYTES };
  }

  async checkAfterKill(client: StrictClient): Promise<void> {
    for (;;) {
      const { error, data } = await client.read(this.#base, REGION_BYTES);
      if (error !== 0) continue; // injected
      this.model.checkAfterKill(data);
      return;
    }
  }
}

async function loadAndKill({ filters, parameters, plugin }: Stack, random: Random): Promise<void> {
  onTestFailed(() => console.error(`the stack was ${filters.join(" ")} ${parameters.join(" ")}`));
  const disk = join(temporaryDirectory(), "disk.img");
  writeFileSync(disk, "");
  truncateSync(disk, OFFSET_BYTES + CLIENTS * REGION_BYTES + (64 << 10));
  const words = [...filters.map((name) => `--filter=${name}`), plugin, disk, ...parameters];
  const loads = Array.from({ length: CLIENTS }, (_, i) => new Load(random, i));
  for (let servers = 0; servers < SERVERS; servers++) {
    const server = await startServer(words, { options: ["--log-clients"] });
    const checker = await StrictClient.connect(server.socket, { style: "structured" });
    for (const load of loads) await load.checkAfterKill(checker);
    checker.raw.socket.destroy();
    const running = Promise.all(loads.map((load) => load.run(server)));
    let hasEnded = false;
    void server.ended.then(() => {
      hasEnded = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 100 + random(500)));
    expect(hasEnded, server.stderr()).toBe(false);
    const isStopped = servers % 3 === 2;
    server.kill(isStopped ? "SIGTERM" : "SIGKILL");
    await running;
    const { status } = await server.ended;
    if (isStopped) expect(status, server.stderr()).toBeGreaterThanOrEqual(0); // and not by a signal
    expect(server.stderr()).not.toMatch(new RegExp(`${COMPLAINT}|Sanitizer|runtime error`));
  }
}

describe("what was flushed or written with FUA is there after kill -9, behind", () => {
  test.each<[string, () => Stack]>([
    ["five of ours", () => stackOf("file", "multi-conn", "cache", "delay", "retry", "blocksize")],
    [
      "five of nbdkit's",
      () =>
        stackOf(
          debianPlugin("file"),
          ...["readahead", "blocksize", "fua", "nozero", "cacheextents"].map((one) => `so:${one}`),
        ),
    ],
    [
      "middleware, ours and nbdkit's",
      () => stackOf("file", "middleware", "cache", "so:blocksize", "offset", "so:nozero"),
    ],
    [
      "ours and middleware, in front of a plugin that answers later",
      () => stackOf("async-file", "fua", "so:cacheextents", "retry-request", "middleware", "cache"),
    ],
  ])("%s", async (_, stack) => {
    await loadAndKill(stack(), randomOf(1));
  });

  test.each(Array.from({ length: RUNS }, (_, i) => FIRST_SEED + i))(
    "five drawn at random, seed %i",
    async (seed) => {
      const random = randomOf(seed);
      await loadAndKill(randomStack(random), random);
    },
  );
});
