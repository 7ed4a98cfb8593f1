// The crate in examples/rust-async: its declarations are the header's, its requests are answered once,
// and no panic gets past a callback.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { checkModel } from "../../src/testing/index.js";
import { runOk } from "../support/command.js";
import { buildRust, languageSource, OLDEST_RUST } from "../support/languages.js";
import { CMD, ERRNO } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  clean,
  LEAKS_AT_EXIT,
  runAsyncnbd,
  sanitizer,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const crate = join(root, "examples", "rust-async");

const { READ, WRITE } = CMD;
const { EIO } = ERRNO;

test("each field of its table has the header's offset and size", async () => {
  const directory = temporaryDirectory();
  const at = (name: string): string => join(directory, name);
  const env = { ...process.env, ...OLDEST_RUST };
  writeFileSync(
    at("layout.rs"),
    `#![allow(dead_code)]
     #[path = "${join(crate, "src", "sys.rs")}"]
     mod sys;
     use std::mem::size_of;
     fn main() {
         for (field, offset) in sys::Plugin::offsets() {
             println!("{field} {offset}");
         }
         println!("{} {}", size_of::<sys::Plugin>(), sys::NBDKIT_FIELDS_BYTES);
         println!("{}", size_of::<sys::Extension>());
         println!("{} {}", sys::THREAD_MODEL_ASYNC, sys::API_VERSION);
         println!("{} {} {}", sys::FLAG_MAY_TRIM, sys::FLAG_FUA, sys::FLAG_REQ_ONE);
         println!("{} {} {}", sys::FLAG_FAST_ZERO, sys::EXTENT_HOLE, sys::EXTENT_ZERO);
     }`,
  );
  await runOk(["rustc", "--edition=2021", "-o", at("rust"), at("layout.rs")], { env });
  const layout = await runOk([at("rust")]);
  const fields = [...layout.matchAll(/^(\w*[a-z]\w*) /gm)].map(([, field]) => field);
  expect(fields.length).toBeGreaterThan(60);
  writeFileSync(
    at("layout.c"),
    `#define NBDKIT_API_VERSION 2
     #include <nbdkit-plugin.h>
     #include <stdio.h>
     int main(void) {
       ${fields
         .map((f) => `printf("${f} %zu\\n", offsetof(struct nbdkit_plugin, ${f}));`)
         .join("\n")}
       printf("%zu %zu\\n", sizeof(struct nbdkit_plugin), offsetof(struct nbdkit_plugin, async_pread));
       printf("%zu\\n", sizeof(struct asyncnbd_extension));
       printf("%d %d\\n", NBDKIT_THREAD_MODEL_ASYNC, NBDKIT_API_VERSION);
       printf("%d %d %d\\n", NBDKIT_FLAG_MAY_TRIM, NBDKIT_FLAG_FUA, NBDKIT_FLAG_REQ_ONE);
       printf("%d %d %d\\n", NBDKIT_FLAG_FAST_ZERO, NBDKIT_EXTENT_HOLE, NBDKIT_EXTENT_ZERO);
     }`,
  );
  const include = `-I${join(root, "native", "include")}`;
  await runOk(["cc", "-Wall", "-Werror", include, "-o", at("c"), at("layout.c")]);
  expect(layout).toBe(await runOk([at("c")]));
});

test("its disk agrees with a model and is sparse", async () => {
  const plugin = await buildRust(crate, { example: "sparse_disk" });
  const dump = await runAsyncnbd(["--dump-plugin", plugin]);
  expect(dump.stdout).toContain("name=sparse-disk\n");
  expect(dump.stdout).toContain("thread_model=async\n");
  const none = await runAsyncnbd([plugin, "--run", "true"]);
  expect(none.stderr).toContain("the size of the disk is missing");
  expect(none.status).toBe(1);
  const server = await startServer([plugin, "size=1M"]);
  await runOk(["qemu-io", "-f", "raw", "-c", "write -P 7 64k 64k", server.uri]);
  const map = await runOk(["nbdinfo", "--map", "--json", server.uri]);
  const extents = (JSON.parse(map) as { offset: number; type: number }[]).map((one) => [
    one.offset,
    one.type,
  ]);
  expect(extents).toEqual([
    [0, 3],
    [65_536, 0],
    [131_072, 3],
  ]);
  await server.stop();
  // It loads the addon into this process.
  if (sanitizer === undefined)
    await checkModel(plugin, { config: { size: "1M" }, seed: 7, cases: 20 });
});

describe("a panic", () => {
  let plugin = "";
  beforeAll(async () => {
    const target = mkdtempSync(join(tmpdir(), "asyncnbd-rust-"));
    plugin = await buildRust(languageSource("rust"), { target });
    return () => rmSync(target, { recursive: true });
  });
  const words = (callback: string): string =>
    `${callback === "size" ? "get_size" : callback}: a panic: 100% wrong in ${callback}: %s%n`;

  test.each(["config", "config_complete", "after_fork"])(
    "in %s stops the start",
    async (callback) => {
      const line = ["-U", "-", plugin, `panic-in=${callback}`, "--run", "true"];
      const { status, stderr } = await runAsyncnbd(line);
      expect(status).toBe(1);
      expect(stderr).toContain(callback === "config" ? "config: a panic: " : words(callback));
    },
  );

  test.each(["open", "size"])(
    "in %s affects one client, and the server goes on",
    async (callback) => {
      const server = await startServer([plugin, `panic-in=${callback}`]);
      for (let i = 0; i < 3; i++) await expect(RawClient.open(server.socket)).rejects.toThrow();
      const { stderr } = await server.stop();
      expect(stderr).toContain(words(callback));
    },
  );

  test("in a callback that has the request is EIO", async () => {
    const server = await startServer([plugin, "panic-in=read"]);
    const client = await RawClient.open(server.socket);
    for (let i = 0; i < 10; i++) {
      expect(await client.request({ type: READ, offset: 0n, length: 512 })).toBe(EIO);
      const payload = Buffer.alloc(512, i);
      expect(await client.request({ type: WRITE, offset: 0n, payload })).toBe(0);
    }
    client.socket.end();
    const { stderr } = await server.stop();
    expect(stderr).toContain(words("read"));
  });

  test("with a value that panics when dropped is handled like any other", async () => {
    const server = await startServer([plugin, "panic-in=read-twice"], { env: LEAKS_AT_EXIT });
    const client = await RawClient.open(server.socket);
    for (let i = 0; i < 3; i++)
      expect(await client.request({ type: READ, offset: 0n, length: 512 })).toBe(EIO);
    client.socket.end();
    const { stderr } = await server.stop();
    expect(stderr).toContain("read: a panic: no text");
  });

  test("in a callback that passed the request on leaves it alone", async () => {
    const server = await startServer([plugin, "panic-in=write"]);
    const client = await RawClient.open(server.socket);
    for (let i = 1; i < 10; i++) {
      const payload = Buffer.alloc(512, i);
      expect(await client.request({ type: WRITE, offset: 0n, payload })).toBe(0);
      expect(await client.request({ type: READ, offset: 0n, length: 512 })).toBe(0);
      expect(await client.read(512)).toEqual(payload);
    }
    client.socket.end();
    const { stderr } = await server.stop();
    expect(stderr).toContain(words("write"));
  });

  test.each(["close", "cleanup"])("in %s is logged, and the server goes on", async (callback) => {
    const command = clean('nbdinfo --size "$uri"');
    const line = ["-U", "-", plugin, `panic-in=${callback}`, "--run", command];
    const { status, stdout, stderr } = await runAsyncnbd(line);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "8388608\n" });
    expect(stderr).toContain(words(callback));
  });
});

test("the commands of its README do what they say", async () => {
  const readme = await runOk(["cat", join(crate, "README.md")]);
  const [, build = "", serve = ""] =
    /```console\n\$ (cargo .*)\n\$ asyncnbd (.*)\n```/.exec(readme) ?? [];
  const copy = join(temporaryDirectory(), "rust-async");
  await runOk(["cp", "-r", crate, copy]);
  const env: NodeJS.ProcessEnv = { ...process.env, ...OLDEST_RUST };
  delete env.LD_PRELOAD;
  await runOk(["sh", "-c", build], { cwd: copy, env });
  const [plugin = "", size = ""] = serve.split(" ");
  const info = clean('nbdinfo --size "$uri"');
  const { stdout } = await runAsyncnbd([join(copy, plugin), size, "--run", info]);
  expect(stdout).toBe(`${2 ** 30}\n`);
});
