// Random, verified requests for a long time through a plugin in TypeScript, with failures and
// clients that vanish: nothing is lost, and no memory either. SOAK_SECONDS=600 for the long one.

import { randomFillSync, randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { CMD, ERRNO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { asyncnbd, startServer, temporaryDirectory } from "../support/server.js";

const SECONDS = Number(process.env.SOAK_SECONDS ?? 20);
const CLIENTS = 8;
const DEPTH = 24;
const REGION_BYTES = 1 << 20;
const BLOCK = 512;
const MAX_BLOCKS = 128;
/** After as many requests, on average, a client vanishes. */
const REQUESTS_PER_LIFE = 2000;
const { EIO } = ERRNO;
const { READ, WRITE, FLUSH, TRIM, WRITE_ZEROES } = CMD;

interface InFlight {
  readonly type: number;
  /** In the client's region. */
  readonly start: number;
  readonly end: number;
  /** What is there if it succeeds. */
  readonly after: Buffer;
}

/** One client, whose region of the disk nobody else writes. */
class SoakClient {
  requests = 0;
  failures = 0;
  lives = 0;
  readonly #socket: string;
  readonly #index: number;
  readonly #model = Buffer.alloc(REGION_BYTES);
  readonly #inFlight = new Map<bigint, InFlight>();
  #uncertain: InFlight[] = [];

  constructor(socket: string, index: number) {
    this.#socket = socket;
    this.#index = index;
  }

  async run(until: number): Promise<void> {
    while (Date.now() < until) await this.#live(until);
  }

  /** One connection, from its start to its end, which is a sudden one but for the last. */
  async #live(until: number): Promise<void> {
    const name = `client${this.#index}-${this.lives++}`;
    const client = await RawClient.open(this.#socket, name);
    for (const request of this.#uncertain) await this.#settle(client, request);
    this.#uncertain = [];
    const requests = randomInt(1, 2 * REQUESTS_PER_LIFE);
    for (let sent = 0; sent < requests && Date.now() < until; ) {
      while (this.#inFlight.size < DEPTH) sent += this.#send(client, BigInt(sent));
      await this.#receive(client);
    }
    if (Date.now() >= until) while (this.#inFlight.size > 0) await this.#receive(client);
    this.#uncertain = [...this.#inFlight.values()].filter(({ type }) => type !== READ);
    this.#inFlight.clear();
    client.socket.destroy();
  }

  /** 1, or 0 if the place that chance has found is in use. */
  #send(client: RawClient, cookie: bigint): number {
    const type = [READ, READ, WRITE, WRITE, TRIM, WRITE_ZEROES, FLUSH][randomInt(7)] as number;
    const blocks = type === FLUSH ? 0 : randomInt(1, MAX_BLOCKS + 1);
    const start = type === FLUSH ? 0 : randomInt(REGION_BYTES / BLOCK - blocks) * BLOCK;
    const end = start + blocks * BLOCK;
    for (const other of this.#inFlight.values())
      if (start < other.end && other.start < end) return 0;
    const after = Buffer.alloc(end - start);
    if (type === WRITE) randomFillSync(after);
    this.#inFlight.set(cookie, { type, start, end, after });
    client.sendRequest({
      type,
      cookie,
      offset: BigInt(type === FLUSH ? 0 : this.#index * REGION_BYTES + start),
      length: end - start,
      ...(type === WRITE && { payload: after }),
    });
    return 1;
  }

  async #receive(client: RawClient): Promise<void> {
    const { error, cookie } = await client.readReply();
    const request = this.#inFlight.get(cookie);
    if (request === undefined) throw new Error(`a reply to no request: ${cookie}`);
    this.#inFlight.delete(cookie);
    this.requests++;
    if (error !== 0) {
      if (error !== EIO) throw new Error(`error ${error}`);
      this.failures++;
      return;
    }
    const { type, start, end, after } = request;
    if (type === READ) this.#check(await client.read(end - start), start, end);
    else if (type !== FLUSH) after.copy(this.#model, start);
  }

  #check(data: Buffer, start: number, end: number): void {
    if (!data.equals(this.#model.subarray(start, end)))
      throw new Error(`client ${this.#index}: wrong data at ${start} to ${end}`);
  }

  /** A request whose answer nobody waited for has happened, or has not. */
  async #settle(client: RawClient, { start, end, after }: InFlight): Promise<void> {
    if (start === end) return;
    const request = { type: READ, offset: BigInt(this.#index * REGION_BYTES + start) };
    while ((await client.request({ ...request, length: end - start })) !== 0);
    const data = await client.read(end - start);
    if (data.equals(after)) after.copy(this.#model, start);
    else this.#check(data, start, end);
  }
}

interface Sample {
  readonly rss: number;
  readonly heapUsed: number;
  readonly external: number;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] as number;

test(
  `${SECONDS} s of random requests by ${CLIENTS} clients`,
  async () => {
    const samplesFile = join(temporaryDirectory(), "samples");
    const plugin = fileURLToPath(new URL("disk.ts", import.meta.url));
    const size = String(CLIENTS * REGION_BYTES);
    const server = await startServer([plugin, `size=${size}`, `samples=${samplesFile}`], {
      command: [process.execPath, "--expose-gc", ...asyncnbd],
    });
    const until = Date.now() + SECONDS * 1000;
    const clients = Array.from({ length: CLIENTS }, (_, i) => new SoakClient(server.socket, i));
    await Promise.all(clients.map((client) => client.run(until)));
    await server.stop();

    const sum = (key: "requests" | "failures" | "lives") =>
      clients.reduce((total, client) => total + client[key], 0);
    expect(sum("failures")).toBeGreaterThan(0);
    expect(sum("lives")).toBeGreaterThan(CLIENTS);

    const samples = readFileSync(samplesFile, "utf8").trim().split("\n");
    const from = (a: number, b: number): Sample[] =>
      samples
        .slice(Math.floor(a * samples.length), Math.ceil(b * samples.length))
        .map((line) => JSON.parse(line) as Sample);
    const of = (key: keyof Sample, list: readonly Sample[]) =>
      median(list.map((sample) => sample[key])) / (1 << 20);
    const early = from(0.2, 0.3);
    const late = from(0.9, 1);
    const story = (["rss", "heapUsed", "external"] as const)
      .map((key) => `${key} ${of(key, early).toFixed(1)} → ${of(key, late).toFixed(1)} MiB`)
      .join(", ");
    console.log(
      `${sum("requests")} requests, ${sum("failures")} failed, ${sum("lives")} connections; ${story}`,
    );
    expect(of("heapUsed", late)).toBeLessThan(of("heapUsed", early) * 1.05 + 1);
    // Memory of requests in flight is kept for later ones: what was the most may be so yet.
    expect(of("external", late)).toBeLessThan(of("external", early) * 1.05 + 2);
  },
  (SECONDS + 60) * 1000,
);
