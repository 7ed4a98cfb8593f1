// A plugin in TypeScript that blocks its thread for ever.

import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CMD } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { killUntilEnd, startServer, temporaryDirectory } from "../support/server.js";

const TERM = 15;
const INT = 2;

async function blocked() {
  const path = join(temporaryDirectory(), "blocking.ts");
  writeFileSync(
    path,
    `import { definePlugin } from "asyncnbd";
     export default definePlugin({
       name: "blocking",
       getSize: () => 4096,
       pread() { this.log.error("blocks now"); for (;;); },
     });`,
  );
  const server = await startServer([path]);
  const client = await RawClient.open(server.socket);
  client.sendRequest({ type: CMD.READ, offset: 0n, length: 512 });
  while (!server.stderr().includes("blocks now")) await new Promise((r) => setTimeout(r, 10));
  return server;
}

test("a signal ends a blocked server, and its socket is removed", async () => {
  const server = await blocked();
  server.kill("SIGTERM");
  const { status, stderr } = await server.ended;
  expect(status).toBe(128 + TERM);
  expect(stderr).toContain("a plugin callback blocks the JavaScript thread");
  expect(existsSync(server.socket)).toBe(false);
});

test("a second signal ends it sooner, and leaves a file that took the socket's place", async () => {
  const server = await blocked();
  rmSync(server.socket);
  mkdirSync(server.socket);
  server.kill("SIGTERM");
  await killUntilEnd(server, "SIGINT");
  expect((await server.ended).status).toBe(128 + INT);
  expect(existsSync(server.socket)).toBe(true);
});
