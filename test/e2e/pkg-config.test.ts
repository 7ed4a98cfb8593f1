// Build systems find headers and folders by pkg-config, wherever the package lies.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { runAsyncnbd, temporaryDirectory } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

const pkgConfig = async (...words: string[]): Promise<string> => {
  const { stdout } = await runAsyncnbd(["--dump-config"]);
  const [, directory] = /^asyncnbd_datadir=(.*)$/m.exec(stdout) as unknown as [string, string];
  const env = { ...process.env, PKG_CONFIG_PATH: directory };
  return (await runOk(["pkg-config", ...words, "asyncnbd"], { env })).trim();
};

test("a plugin compiled with its flags is served", async () => {
  // Not the header that the system may have from nbdkit.
  const headers = resolve(await pkgConfig("--variable=includedir"));
  expect(headers).toBe(join(root, "native", "include"));
  const plugin = join(temporaryDirectory(), "ramdisk.so");
  const flags = (await pkgConfig("--cflags", "--libs")).split(" ").filter((flag) => flag !== "");
  const source = join(root, "examples", "ramdisk.c");
  await runOk(["cc", "-fPIC", "-shared", ...flags, "-o", plugin, source]);
  const { status, stdout } = await runAsyncnbd([plugin, "--run", "nbdinfo --size $uri"]);
  expect(status).toBe(0);
  expect(Number(stdout)).toBeGreaterThan(0);
});

test("its folders are those that the server searches", async () => {
  const { stderr } = await runAsyncnbd(["qzxjw"]); // like no other name
  expect(stderr).toContain(` ${resolve(await pkgConfig("--variable=plugindir"))}, `);
  expect(resolve(await pkgConfig("--variable=filterdir"))).toBe(join(root, "filters"));
});

test("its version is the package's", async () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  expect(await pkgConfig("--modversion")).toBe(version);
});
