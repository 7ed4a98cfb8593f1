// A client whose requests have to succeed, for tests of plugins that have real disks.

import { expect } from "vitest";
import type { RunningServer } from "./server.js";
import { CMD, StrictClient } from "./strict-client.js";

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
