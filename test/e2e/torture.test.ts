// A plugin that answers in random order, late, twice and with errors, under clients that verify
// what they read and clients that are killed.

import { randomInt } from "node:crypto";
import { expect, test } from "vitest";
import { buildRust, languageSource } from "../support/languages.js";
import { CMD, ERRNO } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import { type RunningServer, startServer, testPlugin } from "../support/server.js";

const { READ, WRITE, FLUSH } = CMD;
const { EIO, ENOSPC } = ERRNO;

const SIZE = 8 << 20;
const REGION = 64 << 10;
const BLOCK = 4096;
const ROUNDS = 15;
const IN_FLIGHT = 64;

const firstFailing = SIZE / 2 + REGION;

/** Writes and reads back blocks of its own part of the first half. */
async function verify(server: RunningServer, part: number): Promise<void> {
  const client = await RawClient.connect(server.socket);
  await client.go();
  const base = part * IN_FLIGHT * BLOCK;
  const offset = (block: number) => BigInt(base + block * BLOCK);
  for (let round = 1; round <= ROUNDS; round++) {
    const content = (block: number) => Buffer.alloc(BLOCK, (part * 89 + round * 7 + block) & 0xff);
    for (let block = 0; block < IN_FLIGHT; block++) {
      const payload = content(block);
      const request = { type: WRITE, offset: offset(block), cookie: BigInt(block) };
      client.send(encodeRequest({ ...request, length: BLOCK }), payload);
    }
    for (let i = 0; i < IN_FLIGHT; i++) expect((await client.readReply()).error).toBe(0);
    for (let block = 0; block < IN_FLIGHT; block++)
      client.sendRequest({
        type: READ,
        offset: offset(block),
        length: BLOCK,
        cookie: BigInt(block),
      });
    for (let i = 0; i < IN_FLIGHT; i++) {
      const { error, cookie } = await client.readReply();
      expect(error).toBe(0);
      const data = await client.read(BLOCK);
      expect(data.equals(content(Number(cookie)))).toBe(true);
    }
    expect(await client.request({ type: FLUSH })).toBe(0);
    expect(await client.request({ type: READ, offset: BigInt(firstFailing), length: BLOCK })).toBe(
      EIO,
    );
    const payload = Buffer.alloc(BLOCK);
    expect(
      await client.request({ type: WRITE, offset: BigInt(firstFailing), length: BLOCK, payload }),
    ).toBe(ENOSPC);
  }
  await client.leave();
}

/** Clients that leave, one after the other, with requests in flight. */
async function comeAndGo(server: RunningServer, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const client = await RawClient.connect(server.socket);
    await client.go();
    const payload = Buffer.alloc(randomInt(1, REGION));
    for (let i = 0; i < 100; i++) {
      const cookie = BigInt(i);
      const at = BigInt(SIZE / 2 + randomInt(0, SIZE / 2 - REGION));
      if (randomInt(2) === 0)
        client.sendRequest({ type: READ, offset: at, length: payload.length, cookie });
      else
        client.send(
          encodeRequest({ type: WRITE, offset: at, length: payload.length, cookie }),
          payload,
        );
    }
    await new Promise((resolve) => setTimeout(resolve, randomInt(0, 30)));
    client.socket.destroy();
  }
}

test.each([
  ["in C", () => testPlugin("torture")],
  ["of objects in C++", () => testPlugin("cxxtorture")],
  ["of values in Rust", () => buildRust(languageSource("rust"))],
])("with random replies %s, each client gets its own data", async (_how, plugin) => {
  const server = await startServer([await plugin(), `seed=${randomInt(1, 1000)}`]);
  let verifying = true;
  const passing = Promise.all([
    comeAndGo(server, () => !verifying),
    comeAndGo(server, () => !verifying),
  ]);
  await Promise.all(Array.from({ length: 4 }, (_, part) => verify(server, part)));
  verifying = false;
  await passing;
  const { stderr } = await server.stop();
  const counts =
    /torture: (\d+) replies, (\d+) refused, (\d+) repeated, (\d+) repeats accepted/.exec(stderr);
  expect(Number(counts?.[1])).toBeGreaterThan(4 * ROUNDS * 2 * IN_FLIGHT);
  expect(Number(counts?.[2])).toBeGreaterThan(0);
  expect(Number(counts?.[3])).toBeGreaterThan(0);
  expect(Number(counts?.[4])).toBe(0);
});
