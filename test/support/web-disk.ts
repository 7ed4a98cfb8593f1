// The first bytes of what the http plugin serves.

import { RawClient } from "./raw-client.js";
import { startServer } from "./server.js";

/** `parameters`: the plugin's. */
export async function firstBytesOfWeb(...parameters: readonly string[]): Promise<Buffer> {
  const server = await startServer(["http", ...parameters]);
  const client = await RawClient.open(server.socket);
  const bytes = await client.readAt(0n, 4096);
  await server.stop();
  return bytes;
}
