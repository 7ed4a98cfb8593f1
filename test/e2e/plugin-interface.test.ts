// The C interface as plugins see it: order of calls, version 1, both headers, Debian's binaries.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { CMD, ERRNO, EXPORT_FLAG, FLAG } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import {
  clean,
  debianPlugin,
  nbdkit,
  runAsyncnbd,
  sanitizer,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

test("callbacks come in nbdkit's order", async () => {
  const log = join(temporaryDirectory(), "log");
  const server = await startServer([testPlugin("probe"), "key=value", `log=${log}`, "key=again"]);
  await runOk(["qemu-io", "-f", "raw", "-c", "write -P 1 0 512", "-c", "flush", server.uri]);
  await server.stop();
  const calls = readFileSync(log, "utf8").trim().split("\n");
  // The first connection is the test's own, to see that the server listens.
  const callsOfClient = calls.slice(calls.lastIndexOf("preconnect"));
  expect(calls.slice(0, 5)).toEqual([
    "config",
    "config_complete",
    "thread_model",
    "get_ready",
    "after_fork",
  ]);
  expect(callsOfClient.slice(0, 7)).toEqual([
    "preconnect",
    "default_export",
    "open",
    "get_size",
    "can_write",
    "can_fua",
    "block_size",
  ]);
  expect(callsOfClient.slice(-5, -1)).toEqual(["flush", "close", "cleanup", "unload"]);
});

describe("a plugin of API version 1", () => {
  test("has zeroes emulated by writing, caching by reading and FUA by flushing", async () => {
    const server = await startServer([testPlugin("version1")]);
    const client = await RawClient.connect(server.socket);
    const { flags, sizeBytes } = await client.go();
    expect(flags & EXPORT_FLAG.SEND_FUA).not.toBe(0); // FUA is offered
    expect(flags & EXPORT_FLAG.SEND_WRITE_ZEROES).not.toBe(0); // and write zeroes
    const data = Buffer.alloc(8192, 9);
    expect(await client.request({ type: CMD.WRITE, payload: data, flags: FLAG.FUA })).toBe(0);
    expect(
      await client.request({ type: CMD.WRITE_ZEROES, offset: 100n, length: 200, flags: FLAG.FUA }),
    ).toBe(0);
    expect(
      await client.request({ type: CMD.WRITE_ZEROES, length: 512, flags: FLAG.FAST_ZERO }),
    ).toBe(ERRNO.ENOTSUP); // fast: ENOTSUP
    client.sendRequest({ type: CMD.READ, length: 8192 });
    await client.readReply();
    expect((await client.read(8192)).equals(data.fill(0, 100, 300))).toBe(true);
    // Two flushes, which the plugin counts in its last byte.
    client.sendRequest({ type: CMD.READ, offset: sizeBytes - 1n, length: 1 });
    await client.readReply();
    expect((await client.read(1))[0]).toBe(2);
    await server.stop();
  });

  test("has its own fields in --dump-plugin", async () => {
    const { stdout } = await runAsyncnbd([testPlugin("version1"), "--dump-plugin"]);
    expect(stdout).toContain("api_version=1\n");
    expect(stdout).toContain("max_thread_model=serialize_requests\n");
    expect(stdout).toContain("has__pread_v1=1\n");
    expect(stdout).not.toContain("has_pread=1");
  });
});

test("zeroing by writing covers ranges above 64 MiB", async () => {
  const directory = temporaryDirectory();
  const script = join(directory, "disk.sh");
  const log = join(directory, "log");
  writeFileSync(
    script,
    `case "$1" in
       get_size) echo 200M ;;
       pread) head -c "$3" /dev/zero ;;
       pwrite) echo "$3 $4" >> ${log}; cat > /dev/null ;;
       can_write) exit 0 ;;
       *) exit 2 ;;
     esac`,
    { mode: 0o755 },
  );
  const server = await startServer(["sh", script]);
  const client = await RawClient.connect(server.socket);
  await client.go();
  const MIB = 1 << 20;
  expect(
    await client.request({ type: CMD.WRITE_ZEROES, offset: BigInt(MIB), length: 150 * MIB }),
  ).toBe(0);
  expect(readFileSync(log, "utf8")).toBe(
    [`${64 * MIB} ${MIB}`, `${64 * MIB} ${65 * MIB}`, `${22 * MIB} ${129 * MIB}`, ""].join("\n"),
  );
  await server.stop();
});

// nbdkit has no sanitizer's runtime in it, which a plugin built with one needs.
test.skipIf(sanitizer !== undefined)(
  "our plugins run under nbdkit, and a plugin built with our header does too",
  async () => {
    for (const plugin of ["probe", "memory"].map(testPlugin)) {
      const parameters = plugin.includes("memory") ? ["1M"] : [];
      const server = await startServer([plugin, ...parameters], { command: nbdkit });
      expect(await runOk(["nbdinfo", "--size", server.uri])).toBe("1048576\n");
      await server.stop();
    }
  },
);

test("a plugin built with nbdkit's own header runs under asyncnbd", async () => {
  const directory = temporaryDirectory();
  const output = join(directory, "nbdkit-ramdisk-plugin.so");
  const source = new URL("../../examples/ramdisk.c", import.meta.url).pathname;
  await runOk(["cc", "-fPIC", "-shared", "-o", output, source, "-I/usr/include"]);
  const env = { ASYNCNBD_PLUGIN_PATH: directory };
  const command = clean('nbdinfo --size "$uri"');
  const { stdout } = await runAsyncnbd(["ramdisk", "--run", command], { env });
  expect(stdout).toBe("16777216\n");
});

test.skipIf(sanitizer !== undefined)(
  "an asynchronous plugin with synchronous callbacks as well runs under nbdkit",
  async () => {
    const server = await startServer([testPlugin("asyncprobe"), "size=1M"], { command: nbdkit });
    const io = ["qemu-io", "-f", "raw", "-c", "write -P 7 0 4096", "-c", "read -P 7 0 4096"];
    expect(await runOk([...io, server.uri])).toContain("read 4096/4096 bytes");
    await server.stop();
  },
);

test("the asynchronous example is built as it says, and works", async () => {
  const directory = temporaryDirectory();
  const output = join(directory, "async-ramdisk.so");
  const source = new URL("../../examples/async-ramdisk.cpp", import.meta.url).pathname;
  const include = new URL("../../native/include", import.meta.url).pathname;
  await runOk(["g++", "-std=c++17", "-fPIC", "-shared", "-I", include, source, "-o", output]);
  const server = await startServer([output, "size=16M"]);
  const io = ["qemu-io", "-f", "raw", "-c", "write -P 9 0 16M", "-c", "read -P 9 1M 8M"];
  expect(await runOk([...io, server.uri])).toContain("read 8388608/8388608 bytes");
});

describe("debug flags", () => {
  test("are set before load; unknown ones cause a warning", async () => {
    const flags = ["-D", "memory.dir=1", "-D", "memory.nosuch=1", "-D", "other.flag=1"];
    const plugin = [debianPlugin("memory"), "1M", "--run"];
    const command = clean('qemu-io -f raw -c "write 0 512" "$uri" >/dev/null');
    const { status, stderr } = await runAsyncnbd(["-v", ...flags, ...plugin, command]);
    expect(status).toBe(0);
    expect(stderr).toMatch(/warning: .*global variable called memory_debug_nosuch/);
    expect(stderr).toMatch(/warning: .*other\.flag was not used/);
    expect(stderr).not.toMatch(/warning: .*memory\.dir/);
    expect(stderr).toMatch(/debug: insert_l1_entry/);
  });

  test("unknown to a filter cause a warning", async () => {
    const chain = ["-D", "ip.nosuch=1", "-D", "ip.rules=1", "--filter=ip", "null", "--run", "true"];
    const { status, stderr } = await runAsyncnbd(chain);
    expect(status).toBe(0);
    expect(stderr).toMatch(/warning: .*ip\.nosuch: .*built in.* has no debug flag nosuch/);
    expect(stderr).not.toMatch(/warning: .*ip\.rules/);
  });
});
