// Disks of each kind of plugin, and the little that a client does to see that one is served.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { passingFilter } from "./passing-filter.js";
import { CMD } from "./protocol.js";
import type { RawClient } from "./raw-client.js";
import { temporaryDirectory } from "./server.js";

const BLOCK_BYTES = 512;

const ram = fileURLToPath(new URL("../../examples/ram.ts", import.meta.url));

function image(sizeMib: number): string {
  const path = join(temporaryDirectory(), "image");
  writeFileSync(path, Buffer.alloc(sizeMib * 2 ** 20));
  return path;
}

/** The words of a command line that name the plugin and its parameters. */
export const disks = {
  memory: (sizeMib) => ["memory", `${sizeMib}M`],
  file: (sizeMib) => ["file", image(sizeMib)],
  "async-file": (sizeMib) => ["async-file", image(sizeMib)],
  "delay-memory": (sizeMib) => ["delay-memory", `${sizeMib}M`, "delay=1ms"],
  "a plugin in TypeScript": (sizeMib) => [ram, `size=${sizeMib}M`],
  "a plugin behind a filter": (sizeMib) => ["--filter=readonly", "memory", `${sizeMib}M`],
  "a plugin behind a filter, to write on": (sizeMib) => [passingFilter(), "memory", `${sizeMib}M`],
} satisfies Record<string, (sizeMib: number) => readonly string[]>;

export type DiskKind = keyof typeof disks;

/** The block of this number; other errors than these are not expected. */
export async function readBlock(client: RawClient, number = 0, errors = [0]): Promise<void> {
  const offset = BigInt(number * BLOCK_BYTES);
  client.sendRequest({ type: CMD.READ, offset, length: BLOCK_BYTES });
  const { error } = await client.readReply();
  expect(errors).toContain(error);
  if (error === 0) await client.read(BLOCK_BYTES);
}

/** That many blocks, one after the other. */
export async function readBlocks(client: RawClient, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await readBlock(client, i);
}
