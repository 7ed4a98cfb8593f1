// Files that tests serve, and checksums of what clients got.

import { createHash } from "node:crypto";
import { createReadStream, writeFileSync } from "node:fs";
import { run } from "./command.js";

export const MIB = 1 << 20;

/** Bytes that differ everywhere and are the same in every run. */
export function patternBytes(bytes: number, seed = 1): Buffer {
  const data = Buffer.allocUnsafe((bytes + 3) & ~3);
  let state = seed;
  for (let at = 0; at < data.length; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    data.writeInt32LE(state, at);
  }
  return data.subarray(0, bytes);
}

export function writePattern(path: string, bytes: number, seed = 1): void {
  writeFileSync(path, patternBytes(bytes, seed));
}

export async function checksum(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Whether an outside tool is installed; tests that skip say so. */
export async function hasTool(name: string): Promise<boolean> {
  return (await run(["sh", "-c", `command -v ${name}`])).status === 0;
}
