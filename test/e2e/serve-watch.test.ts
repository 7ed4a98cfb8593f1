// serve({ watch: true }): a plugin's new version takes over, and the program hears of it.

import { test } from "vitest";
import { program } from "../support/program.js";

const WATCHED = `
  const { mkdtempSync, renameSync, writeFileSync } = await import("node:fs");
  const path = mkdtempSync("/tmp/asyncnbd-test-") + "/disk.mjs";
  const write = (text) => { writeFileSync(path + ".new", text); renameSync(path + ".new", path); };
  const version = (byte, more = "") => \`export default { name: "watched", \${more}
    config: { size: "size" }, getSize() { return this.config.size; }, pread: (_h, buf) => { buf.fill(\${byte}); } }\`;
  const reads = (server, byte) => sh(\`qemu-io -r -f raw -c 'read -P \${byte} 0 512' '\${server.uri}'\`);
  write(version(1));
  const logger = { debug() {}, info() {}, warn() {}, error() {} };
  const options = { plugin: path, config: { size: 4096 }, watch: true, logger };
`;

test("a new version, a broken one and one that needs a restart cause events", async () => {
  await program(`${WATCHED}
    const server = await serve(options);
    await reads(server, 1);
    let news = once(server, "reload");
    write(version(2));
    assert.deepEqual(await news, [{ path, clientsLeft: 0 }]);
    await reads(server, 2);

    let failed = once(server, "reloadError");
    write("export default {");
    let [error] = await failed;
    assert.ok(error instanceof AsyncnbdError && error.code === "SCRIPT_UNLOADABLE", error);
    await reads(server, 2);

    failed = once(server, "reloadError");
    write(version(3, "threadModel: 'serialize_requests',"));
    [error] = await failed;
    assert.equal(error.code, "RESTART_NEEDED");

    news = once(server, "reload");
    write(version(4));
    await news;
    await reads(server, 4);
    await server.close();`);
});

test("a version whose cleanup fails is still replaced", async () => {
  await program(`${WATCHED}
    const failing = "cleanup() { throw new Error('mine'); },";
    write(version(1, failing));
    const server = await serve(options);
    for (const byte of [2, 3]) {
      const news = once(server, "reload");
      write(version(byte, failing));
      assert.deepEqual(await news, [{ path, clientsLeft: 0 }]);
      await reads(server, byte);
    }
    let isClosed = false;
    server.on("close", () => { isClosed = true; });
    await server.close().catch(() => {});
    assert.ok(isClosed);`);
});

test("each worker thread causes its own event", async () => {
  await program(`${WATCHED}
    const server = await serve({ ...options, workers: 2 });
    let count = 0;
    const all = new Promise((resolve) => server.on("reload", () => { if (++count === 2) resolve(); }));
    write(version(2));
    await all;
    await reads(server, 2);
    const [error] = await Promise.all([once(server, "reloadError"), write("throw new RangeError('mine')")])
      .then(([[error]]) => [error]);
    assert.equal(error.code, "SCRIPT_UNLOADABLE");
    assert.equal(error.cause.message, "mine");
    await server.close();
    write("import { readFileSync } from 'node:fs'; readFileSync('/nonexistent')");
    const refused = await serve({ ...options, watch: false, workers: 1 }).catch((e) => e);
    assert.equal(refused.cause.code, "ENOENT");
    assert.equal(refused.cause.syscall, "open");`);
});

test("a plugin that cannot be watched is refused", async () => {
  await program(`
    const impossible = { code: "WATCH_IMPOSSIBLE" };
    await assert.rejects(serve({ plugin: ram(), config: { size: "1M" }, watch: true }), impossible);
    await assert.rejects(serve({ plugin: "memory", config: { size: "1M" }, watch: true }), impossible);
    await assert.rejects(serve({ plugin: "memory", watch: "yes" }), { code: "OPTION_INVALID" });`);
});
