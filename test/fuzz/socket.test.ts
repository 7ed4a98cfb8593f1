// Clients that mix good and broken streams, in all styles of replies, against a real server: it
// must go on serving others, lose nothing and leak nothing.

import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { NBD_EXTENDED_REQUEST_MAGIC, NBD_REQUEST_MAGIC } from "../../src/protocol.js";
import { u32, u64 } from "../support/bytes.js";
import { fuzzMs, fuzzTimeoutMs } from "../support/fuzz.js";
import { CMD, INFO, OPT } from "../support/protocol.js";
import { encodeOption, goData, RawClient } from "../support/raw-client.js";
import { eventually, startServer } from "../support/server.js";
import { contextQueries, StrictClient, type Style } from "../support/strict-client.js";

const SIZE = 4 << 20;
const STYLES: readonly Style[] = ["simple", "structured", "extended"];
const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);

/** The same in each run with the same seed. */
class Lot {
  #state = seed;

  below(limit: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * limit);
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }

  bytes(count: number): Buffer {
    return Buffer.from(Array.from({ length: count }, () => this.below(256)));
  }
}

const lot = new Lot();

/** A request's bytes, right or with anything wrong. */
function anyRequest(style: Style): Buffer {
  const isExtended = style === "extended";
  const type = lot.of([...Object.values(CMD), 8, 99].filter((one) => one !== CMD.DISC));
  const length = lot.of([0, 1, 512, 4096, lot.below(70_000), SIZE, 2 ** 32 - 1]);
  const payload = type === CMD.WRITE && length < 100_000 ? lot.bytes(length) : Buffer.alloc(0);
  const flags =
    lot.of([0, 0, 0, 1, 4, 8, 32, lot.below(65_536)]) | (isExtended && payload.length > 0 ? 32 : 0);
  const header = Buffer.alloc(isExtended ? 32 : 28);
  const magic = isExtended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
  header.writeUInt32BE(lot.below(200) === 0 ? lot.below(2 ** 32) : magic, 0);
  header.writeUInt16BE(flags, 4);
  header.writeUInt16BE(type, 6);
  lot.bytes(8).copy(header, 8);
  const offset = lot.of([0, lot.below(SIZE), SIZE, SIZE - 1]);
  header.writeBigUInt64BE(lot.below(20) === 0 ? 2n ** 64n - 1n : BigInt(offset), 16);
  if (isExtended) header.writeBigUInt64BE(BigInt(length), 24);
  else header.writeUInt32BE(length, 24);
  const bytes = Buffer.concat([header, payload]);
  for (let i = lot.below(30); i === 0; i = lot.below(2))
    bytes[lot.below(bytes.length)] = lot.below(256);
  return bytes;
}

/** A handshake that comes to its end in this style, or whatever else. */
function anyHandshake(style: Style): Buffer {
  if (lot.below(5) === 0) return lot.bytes(lot.below(200));
  const options: Buffer[] = [u32(3)];
  if (style === "structured") options.push(encodeOption(OPT.STRUCTURED_REPLY));
  if (style === "extended") options.push(encodeOption(OPT.EXTENDED_HEADERS));
  if (lot.below(2) === 0)
    options.push(encodeOption(OPT.SET_META_CONTEXT, contextQueries("", "base:allocation")));
  if (lot.below(10) === 0) options.push(encodeOption(lot.below(14), lot.bytes(lot.below(60))));
  if (lot.below(20) === 0) options.push(u64(BigInt(lot.below(2 ** 32))));
  options.push(encodeOption(OPT.GO, goData("", lot.below(2) === 0 ? [INFO.BLOCK_SIZE] : [])));
  return Buffer.concat(options);
}

/** Sends without looking at what comes back, and leaves in one way or another. */
async function visit(socket: string): Promise<void> {
  const style = lot.of(STYLES);
  const client = await RawClient.connect(socket);
  client.send(anyHandshake(style));
  client.send(...Array.from({ length: lot.below(40) }, () => anyRequest(style)));
  switch (lot.below(3)) {
    case 0:
      client.socket.destroy();
      return;
    case 1: // what has begun will not end: the server has to close
      client.socket.end();
      await client.closed();
      client.socket.destroy();
      return;
    default:
      await new Promise((resolve) => setTimeout(resolve, lot.below(10)));
      client.socket.destroy();
  }
}

/** What a client that keeps to the rules gets meanwhile. */
async function expectService(socket: string): Promise<void> {
  const client = await StrictClient.connect(socket, {
    style: lot.of(STYLES),
    contexts: [],
  });
  expect((await client.read(BigInt(lot.below(SIZE - 65_536)), 65_536)).error).toBe(0);
  await client.disconnect();
}

const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

test(
  `good and broken streams mixed (FUZZ_SEED=${seed})`,
  async () => {
    const server = await startServer(["memory", `${SIZE}`], { options: ["--grace=2"] });
    await expectService(server.socket);
    const before = descriptors(server.pid);
    const until = Date.now() + fuzzMs;
    let visits = 0;
    while (Date.now() < until) {
      await Promise.all(Array.from({ length: 8 }, () => visit(server.socket)));
      visits += 8;
      await expectService(server.socket);
    }
    console.log(`${visits} broken clients`);
    await eventually("the descriptors are given back", () =>
      descriptors(server.pid) <= before ? true : undefined,
    );
    await server.stop();
  },
  fuzzTimeoutMs,
);
