// A port for servers that cannot choose one themselves.

import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";

/** Others may take it before the server does. */
const TRIES = 5;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** `start` rejects if it cannot listen there; then it is called again with another port. */
export async function onFreePort<T>(start: (port: number) => T | Promise<T>): Promise<T> {
  for (let left = TRIES; ; left--) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (left === 1) throw error;
    }
  }
}
