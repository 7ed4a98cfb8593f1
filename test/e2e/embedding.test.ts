// The server as a part of other programs, each run in a process of its own.

import { expect, test } from "vitest";
import { program } from "../support/program.js";
import { debianPlugin, testPlugin } from "../support/server.js";

test("several servers in one process, each with its own plugin and parameters", async () => {
  const stdout = await program(`
    const one = await serve({ plugin: ram(), config: { size: "1M", label: "one" } });
    const two = await serve({ plugin: ram(), config: { size: 2097152 }, listen: { port: 0, host: "127.0.0.1" } });
    const c = await serve({ plugin: ${JSON.stringify(testPlugin("memory"))}, config: { size: "3M" } });
    for (const { uri } of [one, two, c]) console.log((await sh(\`nbdinfo --size '\${uri}'\`)).trim());
    await sh(\`qemu-io -f raw -c 'write -P 3 0 1M' -c 'read -P 3 0 1M' '\${one.uri}'\`);
    await Promise.all([one.close(), two.close(), c.close()]);`);
  expect(stdout).toBe("1048576\n2097152\n3145728\n");
});

test("events, stats, and the end by a signal of the program's own", async () => {
  await program(`
    const stop = new AbortController();
    const server = await serve({ plugin: ram(), config: { size: "1M" }, signal: stop.signal });
    const seen = [];
    server.on("connection", ({ number }) => seen.push("+" + number));
    server.on("disconnection", ({ number }) => seen.push("-" + number));
    const client = connect(server.endpoint.path);
    await once(client, "data");
    const none = { requests: 0, failedRequests: 0, readBytes: 0, writtenBytes: 0, inFlight: 0 };
    assert.deepEqual(server.getStats(), { connections: 1, totalConnections: 1, ...none, exports: [] });
    client.destroy();
    await once(server, "disconnection");
    assert.deepEqual(seen, ["+1", "-1"]);
    stop.abort();
    await once(server, "close");
    await assert.rejects(once(connect(server.endpoint.path), "connect"));`);
});

test("await using closes it, and the socket is gone", async () => {
  await program(`
    let uri;
    {
      const server = await serve({ plugin: ram(), config: { size: "1M" } });
      uri = server.uri;
      await sh(\`nbdinfo '\${uri}'\`);
      await server[Symbol.asyncDispose]();
    }
    await assert.rejects(sh(\`nbdinfo '\${uri}'\`));`);
});

test("a server that was closed leaves no descriptor, in use or not", async () => {
  await program(`
    import { readdirSync } from "node:fs";
    const round = async (plugin, ...clients) => {
      const server = await serve({ plugin, config: { size: "1M" } });
      for (const command of clients) await sh(\`\${command} '\${server.uri}'\`);
      await server.close();
    };
    for (const plugin of [ram(), ${JSON.stringify(testPlugin("memory"))}]) {
      await round(plugin, "nbdinfo");
      const before = readdirSync("/proc/self/fd").length;
      for (let i = 0; i < 10; i++) await round(plugin, ...(i < 2 ? ["nbdinfo"] : []));
      assert.equal(readdirSync("/proc/self/fd").length, before);
    }
    await assert.rejects(serve({ plugin: "/nonexistent.so" }));`);
});

test("mistakes are AsyncnbdErrors with codes", async () => {
  await program(`
    const code = (expected) => (error) => error instanceof AsyncnbdError && error.code === expected;
    await assert.rejects(serve({ plugin: ram() }), code("PARAMETER_MISSING"));
    await assert.rejects(serve({ plugin: ram(), config: { size: true } }), code("PARAMETER_INVALID"));
    await assert.rejects(serve({ plugin: ram(), config: { size: 1.5 } }), code("PARAMETER_INVALID"));
    await assert.rejects(serve({ plugin: "/nonexistent.so" }), code("LIBRARY_UNLOADABLE"));
    await assert.rejects(serve({ plugin: { ...ram(), name: "a b" } }), code("PLUGIN_INVALID"));
    const listen = { unix: "/nonexistent/socket" };
    await assert.rejects(serve({ plugin: ram(), config: { size: "1M" }, listen }), code("LISTEN_FAILED"));
    await assert.rejects(serve({ plugin: ram(), signal: AbortSignal.abort() }));`);
});

test("while a plugin starts, the program may serve what it asks for", async () => {
  await program(`
    import { createServer } from "node:http";
    const disk = Buffer.alloc(1 << 20, 7);
    const web = createServer(({ headers }, response) => {
      const [from, to] = /(\\d+)-(\\d+)/.exec(headers.range ?? "0-" + (disk.length - 1)).slice(1).map(Number);
      response.writeHead(206, {
        "content-length": to - from + 1,
        "content-range": "bytes " + from + "-" + to + "/" + disk.length,
      });
      response.end(disk.subarray(from, to + 1));
    });
    await once(web.listen(0, "127.0.0.1"), "listening");
    const url = "http://127.0.0.1:" + web.address().port + "/disk";
    const server = await serve({ plugin: "http", config: { url, timeout: 5 } });
    await sh(\`qemu-io -r -f raw -c 'read -P 7 0 1M' '\${server.uri}'\`);
    await server.close();
    web.closeAllConnections();
    web.close();`);
});

test("a plugin that cannot start says why, whatever thread it waits on", async () => {
  await program(`
    import { createServer } from "node:http";
    const web = createServer((_request, response) => void response.writeHead(404).end());
    await once(web.listen(0, "127.0.0.1"), "listening");
    const url = "http://127.0.0.1:" + web.address().port + "/disk";
    await assert.rejects(serve({ plugin: "http", config: { url } }), /404/);
    web.close();`);
});

test("a thread may end while a plugin of its starts", async () => {
  await program(`
    import { createServer } from "node:net";
    import { isMainThread, Worker, workerData } from "node:worker_threads";
    import { fileURLToPath } from "node:url";
    if (isMainThread) {
      const silent = createServer((socket) => void socket.on("error", () => {}));
      await once(silent.listen(0, "127.0.0.1"), "listening");
      const url = "http://127.0.0.1:" + silent.address().port + "/disk";
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: url });
      const [client] = await once(silent, "connection");
      await worker.terminate();
      client.destroy();
      silent.close();
    } else {
      await serve({ plugin: "http", config: { url: workerData, timeout: 2 } });
    }`);
});

test("in a worker thread, which may end without closing it", async () => {
  await program(`
    import { isMainThread, parentPort, Worker } from "node:worker_threads";
    import { fileURLToPath } from "node:url";
    if (isMainThread) {
      const worker = new Worker(fileURLToPath(import.meta.url));
      const [uri] = await once(worker, "message");
      await sh(\`qemu-io -f raw -c 'write -P 3 0 1M' -c 'read -P 3 0 1M' '\${uri}'\`);
      const client = connect(new URL(uri).searchParams.get("socket"));
      await once(client, "data");
      await worker.terminate();
    } else {
      const server = await serve({ plugin: ram(), config: { size: "1M" } });
      parentPort.postMessage(server.uri);
    }`);
});

test("stats count requests of present and past clients", async () => {
  await program(`
    const server = await serve({ plugin: ram(), config: { size: "1M" } });
    const io = "qemu-io -f raw -c 'write 0 64k' -c 'read 0 4k' -c 'read 0 4k'";
    await sh(\`\${io} '\${server.uri}'\`);
    while (server.getStats().connections > 0) await new Promise((r) => setTimeout(r, 10));
    const { readBytes, writtenBytes, failedRequests, inFlight } = server.getStats();
    assert.deepEqual({ readBytes, writtenBytes, failedRequests, inFlight }, {
      readBytes: 8192, writtenBytes: 65536, failedRequests: 0, inFlight: 0 });
    const c = await serve({ plugin: ram(), config: { size: "1M" }, filters: ["error"] });
    await sh(\`\${io} '\${c.uri}'\`);
    await Promise.all([server.close(), c.close()]);`);
});

test("connectPair() serves one end of a pair and returns the other", async () => {
  await program(`
    const { Socket } = await import("node:net");
    const server = await serve({ plugin: ram(), config: { size: "1M" }, listen: "nothing" });
    assert.equal(server.uri, undefined);
    const client = new Socket({ fd: server.connectPair() });
    const [greeting] = await once(client, "data");
    assert.equal(greeting.toString("latin1", 0, 16), "NBDMAGICIHAVEOPT");
    client.destroy();
    await once(server, "disconnection");
    await server.close();`);
});

test("a descriptor that is no socket, or comes after close, is refused", async () => {
  await program(`
    const { openSync } = await import("node:fs");
    const refused = (code) => (error) => error instanceof AsyncnbdError && error.code === code;
    const server = await serve({ plugin: ram(), config: { size: "1M" }, listen: "nothing" });
    for (const fd of ["x", -1, 1.5, NaN, 2 ** 40, undefined, null, {}, openSync("/dev/null")])
      await assert.rejects(server.connect(fd), refused("NOT_A_SOCKET"));
    await server.close();
    await assert.rejects(server.connect(0), refused("SERVER_CLOSED"));
    assert.throws(() => server.connectPair(), refused("SERVER_CLOSED"));`);
});

test("close waits no longer than its limit for a plugin that does not answer", async () => {
  await program(`
    const never = definePlugin({ name: "never", getSize: () => 4096, pread: () => new Promise(() => {}) });
    const server = await serve({ plugin: never });
    const client = sh(\`qemu-io -r -f raw -c 'read 0 512' '\${server.uri}' 2>&1 || true\`);
    while (server.getStats().inFlight === 0) await new Promise((r) => setTimeout(r, 10));
    const begun = performance.now();
    await server.close({ graceMs: 100 });
    assert.ok(performance.now() - begun < 10_000, "the grace is 30 s by default");
    assert.match(await client, /read failed/);`);
});

test("what cannot be is said at once", async () => {
  await program(`
    await assert.rejects(serve({ plugin: ram(), config: { size: "1M" }, workers: 2 }), /workers: a plugin object/);
    await assert.rejects(serve({ plugin: "memory", config: { size: "1M" }, workers: 2 }), AsyncnbdError);
    await assert.rejects(serve({ plugin: "memory", config: { size: "1M" }, filters: ["nosuch"] }), /no filter/);`);
});

test("pre-shared keys encrypt, and wrong key files are reported", async () => {
  await program(`
    const { mkdtempSync, writeFileSync } = await import("node:fs");
    const directory = mkdtempSync("/tmp/asyncnbd-test-");
    const preSharedKeys = directory + "/keys.psk";
    writeFileSync(preSharedKeys, "alice:" + "5a".repeat(32) + "\\n");
    const server = await serve({ plugin: ram(), config: { size: "1M" }, tls: { preSharedKeys } });
    assert.match(server.uri, /^nbds\\+unix:/);
    const uri = server.uri.replace("nbds+unix://", "nbds+unix://alice@");
    assert.equal((await sh(\`nbdinfo --size '\${uri}'\`)).trim(), "1048576");
    await assert.rejects(sh(\`nbdinfo --size '\${uri.replace("nbds", "nbd").replace("alice@", "")}'\`));
    await server.close();
    const wrong = serve({ plugin: ram(), config: { size: "1M" }, tls: { certificates: directory } });
    await assert.rejects(wrong, (error) => error instanceof AsyncnbdError && error.code === "TLS_UNUSABLE");
    await sh("rm -r " + directory);`);
});

test("programs started by a C plugin have the program's streams, and end on SIGPIPE", async () => {
  const stdout = await program(`
    const data = "<( while :; do echo -n .; done )[:400]";
    const server = await serve({ plugin: ${JSON.stringify(debianPlugin("data"))}, config: { data } });
    console.log((await sh(\`nbdinfo --size '\${server.uri}'\`)).trim());
    const list = process.argv[1] + ".list";
    const tmpdisk = { size: "1M", command: "ls /dev/fd/ >" + list + "; truncate -s $size $disk" };
    const other = await serve({ plugin: ${JSON.stringify(debianPlugin("tmpdisk"))}, config: tmpdisk });
    await sh(\`nbdinfo --size '\${other.uri}'\`);
    console.log(await sh("cat " + list));
    await Promise.all([server.close(), other.close()]);`);
  expect(stdout).toMatch(/^400\n0\n1\n2\n\d+\n/);
});
