// Socket activation, by libnbd's own superserver and by hand.

import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run, runOk } from "../support/command.js";
import {
  asyncnbd,
  clean,
  runAsyncnbd,
  serverEnvironment,
  temporaryDirectory,
} from "../support/server.js";

/** libnbd makes the socket, starts the server on it, and ends it. */
const activated = (...args: string[]): string[] => ["--", "[", ...serverCommand(args), "]"];

/** The client must run without a sanitizer, and the server with it. */
function serverCommand(args: readonly string[]): string[] {
  const { LD_PRELOAD, ASAN_OPTIONS, LSAN_OPTIONS, UBSAN_OPTIONS, ASYNCNBD_BUILD_DIR } =
    serverEnvironment();
  const settings = { LD_PRELOAD, ASAN_OPTIONS, LSAN_OPTIONS, UBSAN_OPTIONS, ASYNCNBD_BUILD_DIR };
  const words = Object.entries(settings).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  return ["env", ...words, ...asyncnbd, ...args];
}

test("nbdinfo and nbdcopy start the server themselves", async () => {
  expect(await runOk(["nbdinfo", "--size", ...activated("memory", "5M")])).toBe("5242880\n");
  const copy = join(temporaryDirectory(), "copy");
  await runOk(["nbdcopy", ...activated("--filter=readonly", "ram", "3M"), copy]);
  expect(statSync(copy).size).toBe(3 << 20);
});

test("the server's children and other processes do not get the variables", async () => {
  const env = { ...process.env, LISTEN_PID: "1", LISTEN_FDS: "1" };
  const { status, stdout } = await runAsyncnbd(
    ["memory", "1M", "--run", clean('echo "<$LISTEN_PID$LISTEN_FDS>"')],
    { env },
  );
  expect({ status, stdout }).toEqual({ status: 0, stdout: "<>\n" });
});

test.each([
  [["-p", "1"], "--port and socket activation"],
  [["--run", "true"], "--run and socket activation"],
  [["-s"], "--single and socket activation"],
  [[], "descriptor 3 is not a listening socket"],
])("%j is refused with the reason", async (options, words) => {
  const command = [...asyncnbd, ...options, "memory", "1M"].map((word) => `'${word}'`).join(" ");
  const { status, stderr } = await run(
    ["sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec ${command} 3</dev/null`],
    { env: serverEnvironment() },
  );
  expect(status).toBe(1);
  expect(stderr).toContain(words);
});
