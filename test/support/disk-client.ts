// A client whose requests have to succeed, for tests of plugins that have real disks.

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { runOk } from "./command.js";
import { MIB } from "./fixtures.js";
import { CMD } from "./protocol.js";
import { type RunningServer, temporaryDirectory } from "./server.js";
import { StrictClient } from "./strict-client.js";

export const connectTo = (server: RunningServer, exportName = ""): Promise<StrictClient> =>
  StrictClient.connect(server.socket, {
    style: "structured",
    contexts: ["base:allocation"],
    exportName,
  });

export async function write(
  client: StrictClient,
  offset: number,
  payload: Uint8Array,
): Promise<void> {
  const reply = await client.request({ type: CMD.WRITE, offset: BigInt(offset), payload });
  expect(reply.error).toBe(0);
}

export async function read(client: StrictClient, offset: number, length: number): Promise<Buffer> {
  const { error, data } = await client.read(BigInt(offset), length);
  expect(error).toBe(0);
  return data;
}

/** Sends the reads together; each must be what the model has there. */
export async function expectReads(
  client: StrictClient,
  reads: readonly { type: number; offset: bigint; length: number }[],
  model: Buffer,
): Promise<void> {
  const replies = await client.requests(...reads);
  for (const [i, { offset, length }] of reads.entries()) {
    const at = Number(offset);
    expect(replies[i]?.data.equals(model.subarray(at, at + length))).toBe(true);
  }
}

/** Copies a file with data and holes to an empty disk and back. Returns what the disk has. */
export async function copyInAndOut(server: RunningServer, bytes: number): Promise<Buffer> {
  const directory = temporaryDirectory();
  const [file, copied] = [join(directory, "in"), join(directory, "copied")];
  const content = Buffer.alloc(bytes);
  randomBytes(3 * MIB + 512).copy(content, 5 * MIB);
  randomBytes(4096).copy(content, content.length - 4096);
  writeFileSync(file, content);
  await runOk(["nbdcopy", "--connections=4", "--flush", file, server.uri]);
  await runOk(["nbdcopy", "--connections=4", server.uri, copied]);
  expect(readFileSync(copied).equals(content)).toBe(true);
  await runOk(["qemu-img", "compare", "-f", "raw", "-F", "raw", file, server.uri]);
  expect(await runOk(["nbdinfo", "--map", "--totals", server.uri])).toMatch(/ 3 hole,zero/);
  return content;
}
