// getStats(): what clients have asked for, by export and kind of request.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { program } from "../support/program.js";
import { temporaryDirectory } from "../support/server.js";

const CLIENT = JSON.stringify(new URL("../../dist/client/index.js", import.meta.url).pathname);

const PRELUDE = `
  const asked = ({ operations }) => Object.fromEntries(Object.entries(operations)
    .map(([name, { requests, failedRequests, bytes }]) => [name, [requests, failedRequests, bytes]]));
  const io = async (server, name, ...commands) => {
    const gone = once(server, "disconnection");
    const options = commands.map((command) => \`-c '\${command}'\`).join(" ");
    const uri = \`nbd+unix:///\${name}?socket=\${server.endpoint.path}\`;
    await sh(\`qemu-io -f raw -d unmap \${options} '\${uri}' || true\`);
    await gone;
  };
`;

test("counts, bytes and failures of each kind, of each export", async () => {
  await program(`${PRELUDE}
    const plugin = { ...ram(), flush() {}, trim() {}, cache() {},
      pread(disk, buf, offset) { if (offset === 8192) throw failure("EIO", "scratched"); } };
    const server = await serve({ plugin, config: { size: "1M" } });
    assert.deepEqual(server.getStats().exports, []);
    await io(server, "one", "write 0 64k", "read 0 4k", "read 4k 4k", "read 8k 4k", "discard 0 4k", "flush");
    await io(server, "two", "read 0 1k");
    const stats = server.getStats();
    assert.deepEqual(stats.exports.map(({ exportName }) => exportName), ["one", "two"]);
    const [one, two] = stats.exports.map(asked);
    assert.deepEqual(one.read, [3, 1, 12288]);
    assert.deepEqual(one.write, [1, 0, 65536]);
    assert.deepEqual(one.trim, [1, 0, 4096]);
    assert.ok(one.flush[0] >= 1 && one.flush[1] === 0 && one.flush[2] === 0);
    assert.deepEqual(two.read, [1, 0, 1024]);
    assert.deepEqual(two.write, [0, 0, 0]);
    assert.equal(stats.exports[0].operations.read.latency, undefined);
    assert.equal(stats.readBytes, 13312);
    assert.equal(stats.failedRequests, 1);
    await server.close();
    assert.deepEqual(asked(server.getStats().exports[0]).read, [3, 1, 12288]);`);
});

test("present clients count too", async () => {
  await program(`${PRELUDE}
    const server = await serve({ plugin: "memory", config: { size: "1M" } });
    const { connect: dial } = await import(${CLIENT});
    const client = await dial(server.uri);
    await client.read(0, 512);
    const { connections, exports: [only] } = server.getStats();
    assert.equal(connections, 1);
    assert.deepEqual(asked(only).read, [1, 0, 512]);
    await client.close();
    await server.close();
    assert.deepEqual(asked(server.getStats().exports[0]).read, [1, 0, 512]);`);
});

test.each(["ram()", '"memory"'])("latencies of %s are measured on request", async (plugin) => {
  await program(`${PRELUDE}
    const server = await serve({ plugin: ${plugin}, config: { size: "1M", rdelay: "5ms" },
      filters: ["delay"], stats: "latency" });
    await io(server, "", ...Array.from({ length: 20 }, (_, i) => "read " + i * 4096 + " 4k"), "write 0 512k");
    const [{ operations: { read, write, trim } }] = server.getStats().exports;
    const { p50Us, p90Us, p99Us, p999Us, maxUs } = read.latency;
    assert.ok(p50Us >= 5000 && p50Us <= p90Us && p90Us <= p99Us && p99Us <= p999Us && p999Us <= maxUs,
      JSON.stringify(read));
    assert.ok(write.latency.maxUs > 0);
    assert.equal(trim.latency, undefined);
    await server.close();`);
});

test("counts of all workers are added up", async () => {
  const path = join(temporaryDirectory(), "disk.mjs");
  writeFileSync(
    path,
    'export default { name: "disk", getSize: () => 65536, pread: (_h, buf) => void buf.fill(1), pwrite() {} };',
  );
  await program(`${PRELUDE}
    const server = await serve({ plugin: ${JSON.stringify(path)}, workers: 2, stats: "latency" });
    const clients = 4;
    for (let i = 0; i < clients; i++) await io(server, "", "read 0 4k", "read 4k 4k");
    const [only] = server.getStats().exports;
    assert.deepEqual(asked(only).read, [2 * clients, 0, 8192 * clients]);
    assert.ok(only.operations.read.latency.p50Us <= only.operations.read.latency.maxUs);
    await server.close();`);
});

test("invented export names take limited memory", async () => {
  const stdout = await program(`
    const { connect: client } = await import(${CLIENT});
    const server = await serve({ plugin: "memory", config: { size: "1M" }, stats: "latency" });
    for (let i = 0; i < 110; i++) {
      const gone = once(server, "disconnection");
      const one = await client("nbd+unix:///" + i + "?socket=" + server.endpoint.path);
      await one.read(0, 512);
      await one.close();
      await gone;
    }
    const { exports } = server.getStats();
    const rest = exports.at(-1);
    console.log(exports.length, rest.exportName, rest.operations.read.requests, rest.operations.read.latency.p50Us > 0);
    await server.close();`);
  expect(stdout).toBe("101 undefined 10 true\n");
});

test("all threads count the same names apart, and no request is lost", async () => {
  const path = join(temporaryDirectory(), "any.mjs");
  writeFileSync(
    path,
    'export default { name: "any", getSize: () => 65536, pread: (_h, buf) => void buf.fill(1) };',
  );
  const stdout = await program(`
    const { connect: client } = await import(${CLIENT});
    const server = await serve({ plugin: ${JSON.stringify(path)}, workers: 2, stats: "latency" });
    for (let i = 0; i < 110; i++) {
      const clients = await Promise.all([0, 1].map(() =>
        client("nbd+unix:///" + i + "?socket=" + server.endpoint.path)));
      for (const one of clients) {
        const gone = once(server, "disconnection");
        await one.read(0, 512);
        await one.close();
        await gone;
      }
    }
    const { exports } = server.getStats();
    const untold = exports.filter(({ operations: { read } }) => !(read.latency?.p50Us > 0));
    console.log(exports.length, untold.length, exports.at(-1).exportName, exports.at(-1).operations.read.requests);
    await server.close();`);
  expect(stdout).toBe("101 0 undefined 20\n");
});
