// What the http plugin serves, or why it does not.

import { CMD } from "./protocol.js";
import { RawClient, type RequestFields } from "./raw-client.js";
import { refusalOf } from "./refusal.js";
import { startServer } from "./server.js";

export const read = (offset: number, length: number): RequestFields & { length: number } => ({
  type: CMD.READ,
  offset: BigInt(offset),
  length,
});

/** What it says when it does not start. `parameters`: the plugin's. */
export const refusal = (...parameters: readonly string[]): Promise<string> =>
  refusalOf(["http", ...parameters]);

/** `parameters`: the plugin's. */
export async function firstBytesOfWeb(...parameters: readonly string[]): Promise<Buffer> {
  const server = await startServer(["http", ...parameters]);
  const client = await RawClient.open(server.socket);
  const bytes = await client.readAt(0n, 4096);
  await server.stop();
  return bytes;
}
