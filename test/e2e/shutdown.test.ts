// How the server ends: gracefully at the first signal, at once at the second.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openDescriptors, threadCount } from "../support/process.js";
import { CMD } from "../support/protocol.js";
import { encodeRequest, RawClient } from "../support/raw-client.js";
import {
  eventually,
  killUntilEnd,
  startServer,
  temporaryDirectory,
  testPlugin,
} from "../support/server.js";

describe.each(["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const)("%s", (signal) => {
  test("ends an idle server with status 0 and removes its socket", async () => {
    const server = await startServer(["memory", "1M"]);
    server.kill(signal);
    expect(await server.ended).toMatchObject({ status: 0 });
    expect(existsSync(server.socket)).toBe(false);
  });

  test("does not wait for idle clients, negotiating or connected", async () => {
    const server = await startServer(["memory", "1M"]);
    const negotiating = await RawClient.connect(server.socket);
    await negotiating.greet();
    const connected = await RawClient.connect(server.socket);
    await connected.go();
    server.kill(signal);
    await Promise.all([negotiating.closed(), connected.closed()]);
    expect(await server.ended).toMatchObject({ status: 0 });
  });
});

test("requests in flight at the signal are answered before the connection closes", async () => {
  const log = join(temporaryDirectory(), "log");
  const server = await startServer([testPlugin("probe"), "delay-ms=300", `log=${log}`]);
  const client = await RawClient.connect(server.socket);
  await client.go();
  const count = 8;
  client.send(
    ...Array.from({ length: count }, (_, i) =>
      encodeRequest({ type: CMD.READ, length: 1, cookie: BigInt(i) }),
    ),
  );
  await eventually("start of a request", () =>
    threadCount(server.pid) > 0 && server.stderr() === "" ? true : undefined,
  );
  await eventually("connection", () =>
    readFileSync(log, "utf8").includes("can_write") ? true : undefined,
  );
  server.kill("SIGTERM");
  for (let i = 0; i < count; i++) {
    expect((await client.readReply()).error).toBe(0);
    await client.read(1);
  }
  await client.closed();
  expect(await server.ended).toMatchObject({ status: 0 });
  expect(readFileSync(log, "utf8")).toMatch(/close\ncleanup\nunload\n/);
});

test("a second signal ends the server during a request", async () => {
  // Ending at once frees nothing, which a leak detector would hold against it.
  const env = { ASAN_OPTIONS: "detect_leaks=0" };
  const server = await startServer([testPlugin("probe"), "delay-ms=20000"], { env });
  const client = await RawClient.connect(server.socket);
  await client.go();
  client.sendRequest({ type: CMD.READ, length: 1 });
  await new Promise((resolve) => client.socket.write("", resolve));
  server.kill("SIGTERM");
  await eventually("the end of listening", async () => {
    try {
      (await RawClient.connect(server.socket)).socket.destroy();
      return undefined;
    } catch {
      return true;
    }
  });
  await killUntilEnd(server, "SIGINT");
  const { status } = await server.ended;
  expect(status).toBe(128 + 2);
  expect(existsSync(server.socket)).toBe(false);
});

test.each([
  ["SIGTERM", "SIGTERM"],
  ["SIGINT", "SIGTERM"],
] as const)("%s and %s right after it are one stop", async (first, second) => {
  const log = join(temporaryDirectory(), "log");
  const server = await startServer([testPlugin("probe"), "delay-ms=300", `log=${log}`]);
  const client = await RawClient.open(server.socket);
  client.sendRequest({ type: CMD.READ, length: 1 });
  await new Promise((resolve) => client.socket.write("", resolve));
  server.kill(first);
  server.kill(second);
  expect((await client.readReply()).error).toBe(0);
  expect(await server.ended).toMatchObject({ status: 0 });
  expect(readFileSync(log, "utf8")).toMatch(/close\ncleanup\nunload\n/);
});

test.each([
  ["", []],
  [", behind a filter", ["--filter=readonly"]],
])(
  "clients killed during requests leave no descriptor and no thread behind%s",
  async (_, options) => {
    const server = await startServer([testPlugin("probe"), "delay-ms=5"], { options });
    const warmUp = await RawClient.connect(server.socket);
    await warmUp.go();
    await warmUp.request({ type: CMD.FLUSH });
    const descriptors = openDescriptors(server.pid);
    for (let round = 0; round < 10; round++) {
      const clients = await Promise.all(
        Array.from({ length: 10 }, async () => {
          const client = await RawClient.connect(server.socket);
          await client.go();
          const write = encodeRequest({ type: CMD.WRITE, length: 4096 });
          client.send(
            ...Array.from({ length: 20 }, () => encodeRequest({ type: CMD.READ, length: 65536 })),
            Buffer.concat([write, Buffer.alloc(4096)]),
            Buffer.concat([write, Buffer.alloc(100)]),
          );
          return client;
        }),
      );
      for (const client of clients) client.socket.destroy();
    }
    await eventually("closing of all descriptors", () =>
      openDescriptors(server.pid) <= descriptors ? true : undefined,
    );
    expect(await warmUp.request({ type: CMD.FLUSH })).toBe(0);
    await eventually("retirement of threads", () =>
      threadCount(server.pid) < 20 ? true : undefined,
    );
    await server.stop();
  },
);
