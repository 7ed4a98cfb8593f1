// Native filters that decide who is let in and how much is done at once, in front of plugins in
// TypeScript: on the command line, behind middleware, and made by a module.

import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { connect as connectClient, listExports } from "../../src/client/index.js";
import { passingFilter } from "../support/passing-filter.js";
import { CMD, OPT } from "../support/protocol.js";
import { RawClient } from "../support/raw-client.js";
import { debianFilter, runAsyncnbd, startServer, temporaryDirectory } from "../support/server.js";

const { READ, WRITE, FLUSH } = CMD;

/** A module with a disk whose reads take 20 ms, and which says how many there are at once. */
function diskModule(front = "disk"): string {
  const path = join(temporaryDirectory(), "disk.ts");
  writeFileSync(
    path,
    `import { definePlugin } from "asyncnbd";
     import * as filters from "asyncnbd/middleware";
     const bytes = Buffer.alloc(65536);
     let reading = 0;
     const disk = definePlugin({
       name: "disk",
       getSize: () => bytes.length,
       async pread(_h, buf, offset) {
         console.error("reading " + ++reading);
         await new Promise((resolve) => setTimeout(resolve, 20));
         bytes.copy(buf, 0, offset);
         reading--;
       },
       pwrite(_h, buf, offset) { buf.copy(bytes, offset); },
       flush() { console.error("flush"); },
     });
     export default ${front};`,
  );
  return path;
}

/** Where a filter may stand that a module makes by `made`. */
const places = (name: string, made: string, words: readonly string[]) =>
  [
    ["on the command line", () => [`--filter=${name}`, diskModule(), ...words]],
    ["behind middleware", () => [passingFilter(), `--filter=${name}`, diskModule(), ...words]],
    ["in front of middleware", () => [`--filter=${name}`, passingFilter(), diskModule(), ...words]],
    ["made by a module", () => [diskModule(`filters.${made}(disk)`)]],
  ] satisfies [string, () => readonly string[]][];

const isRefused = async (socket: string): Promise<boolean> => {
  const client = await RawClient.connect(socket);
  return client.go().then(
    () => false,
    () => true,
  );
};

describe("ip", () => {
  test.each(places("ip", 'ip({ deny: ["anyunix"] })', ["deny=anyunix"]))(
    "%s, refuses clients that match a rule",
    async (_place, args) => {
      const server = await startServer(args());
      expect(await isRefused(server.socket)).toBe(true);
      await server.stop();
    },
  );

  test.each(
    places("ip", 'ip({ allow: ["uid:" + process.getuid()], deny: ["all"] })', [
      `allow=uid:${process.getuid?.()}`,
      "deny=all",
    ]),
  )("%s, accepts clients that match a rule", async (_place, args) => {
    const server = await startServer(args());
    expect(await isRefused(server.socket)).toBe(false);
    await server.stop();
  });

  test.each([
    ["allow=127.0.0.1 deny=all", true],
    ["allow=127.0.0.0/8,::1 deny=all", true],
    ["allow=128.0.0.0/1 deny=all", false],
    ["deny=127.0.0.1/32", false],
    ["deny=126.0.0.0/8", true],
  ])("rules for addresses: %s", async (rules, isLetIn) => {
    const server = await startServer(["--filter=ip", "memory", "1M", ...rules.split(" ")], {
      transport: "tcp",
    });
    const client = await RawClient.connect(server.where);
    const opened = client.go().then(
      () => true,
      () => false,
    );
    expect(await opened).toBe(isLetIn);
    await server.stop();
  });
});

/** Sends reads from each client, and returns the most that the disk has seen at once. */
async function readsAtOnce(args: readonly string[], clientCount: number): Promise<number> {
  const server = await startServer(args);
  const opening = Array.from({ length: clientCount }, () => RawClient.open(server.socket));
  for (const client of await Promise.all(opening)) {
    for (let i = 0; i < 4; i++) client.sendRequest({ type: READ, offset: 0n, length: 512 });
  }
  for (const client of await Promise.all(opening)) await client.read(4 * (16 + 512));
  const { stderr } = await server.stop();
  return Math.max(...[...stderr.matchAll(/reading (\d+)/g)].map(([, count]) => Number(count)));
}

describe("noparallel", () => {
  test("without it, reads are done at once", async () => {
    expect(await readsAtOnce([diskModule()], 1)).toBe(4);
  });

  test.each(places("noparallel", "noparallel()", []))(
    "%s, has one read of a client at a time",
    async (_place, args) => {
      expect(await readsAtOnce(args(), 1)).toBe(1);
      expect(await readsAtOnce(args(), 2)).toBe(2);
    },
  );

  test.each(
    places("noparallel", 'noparallel({ serialize: "all-requests" })', ["serialize=all-requests"]),
  )("%s, has one read of all clients at a time", async (_place, args) => {
    expect(await readsAtOnce(args(), 3)).toBe(1);
  });

  test.each(
    places("noparallel", 'noparallel({ serialize: "connections" })', ["serialize=connections"]),
  )("%s, has one client at a time", async (_place, args) => {
    const server = await startServer(args());
    const first = await RawClient.open(server.socket);
    const second = await RawClient.connect(server.socket);
    let isSecondOpen = false;
    const opened = second.go().then(() => {
      isSecondOpen = true;
    });
    expect(await first.request({ type: FLUSH })).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 300)); // in which it would have opened
    expect(isSecondOpen).toBe(false);
    first.socket.end();
    await opened;
    await server.stop();
  });
});

test.each(places("multi-conn", 'multiConn({ mode: "emulate" })', ["multi-conn-mode=emulate"]))(
  "multi-conn %s flushes another connection's writes once",
  async (_place, args) => {
    const server = await startServer(args());
    const [one, other] = [await RawClient.open(server.socket), await RawClient.open(server.socket)];
    const payload = Buffer.alloc(512, 1);
    expect(await other.request({ type: WRITE, offset: 0n, length: 512, payload })).toBe(0);
    expect(await one.request({ type: FLUSH })).toBe(0);
    expect(await one.request({ type: FLUSH })).toBe(0);
    expect(await other.request({ type: FLUSH })).toBe(0);
    const { stderr } = await server.stop();
    expect(stderr.match(/flush/g)).toHaveLength(1);
  },
);

test.each(places("protect", 'protect("512-1023")', ["protect=512-1023"]))(
  "protect %s refuses only changes of the protected part",
  async (_place, args) => {
    const server = await startServer(args());
    const client = await RawClient.open(server.socket);
    const write = (offset: number, byte: number) =>
      client.request({
        type: WRITE,
        offset: BigInt(offset),
        length: 512,
        payload: Buffer.alloc(512, byte),
      });
    expect(await write(0, 1)).toBe(0);
    expect(await write(100, 1)).toBe(1); // EPERM
    expect(await write(512, 0)).toBe(0);
    expect(await write(1024, 1)).toBe(0);
    await server.stop();
  },
);

test.each(places("pause", 'pause(process.env.CONTROL ?? "")', []))(
  "pause %s makes requests wait",
  async (_place, args) => {
    const control = join(temporaryDirectory(), "control");
    const words = args();
    const isModule = words.length === 1;
    const server = await startServer(isModule ? words : [...words, `pause-control=${control}`], {
      env: { CONTROL: control },
    });
    const client = await RawClient.open(server.socket);
    const operator = connect(control);
    const answer = (command: string) =>
      new Promise<string>((resolve) => {
        operator.once("data", (data) => resolve(String(data)));
        operator.write(command);
      });
    expect(await answer("p")).toBe("P");
    client.sendRequest({ type: READ, offset: 0n, length: 512 });
    expect(await answer("?")).toBe("X");
    expect(server.stderr()).not.toContain("reading");
    expect(await answer("r")).toBe("R");
    await client.read(16 + 512);
    operator.destroy();
    await server.stop();
  },
);

test.each(places("exitwhen", 'exitwhen({ filesCreated: ["/"] })', ["exit-when-file-created=/"]))(
  "exitwhen %s ends the server at once if its event has happened",
  async (_place, args) => {
    const { status } = await runAsyncnbd(["-U", join(temporaryDirectory(), "s"), "-f", ...args()]);
    expect(status).toBe(0);
  },
);

test.each(places("time-limit", "timeLimit(200)", ["time-limit=200ms"]))(
  "time-limit %s disconnects a client that is there for too long",
  async (_place, args) => {
    const server = await startServer(args());
    const client = await RawClient.open(server.socket);
    await client.closed();
    const { stderr } = await server.stop();
    expect(stderr).toContain("time-limit");
  },
);

/** A module with two disks, the first of which is the default, that says what it is asked. */
function namesModule(): string {
  const path = join(temporaryDirectory(), "names.ts");
  writeFileSync(
    path,
    `import { definePlugin, failure } from "asyncnbd";
     export default definePlugin({
       name: "names",
       config: { fail: { type: "string", required: false } },
       preconnect({ readonly }) {
         console.error("preconnect " + readonly);
         return this.config.fail !== "preconnect";
       },
       async listExports() {
         if (this.config.fail === "list") throw failure("EIO", "no list today");
         if (this.config.fail === "silent") await new Promise(() => {});
         return [{ name: "a", description: "first" }, { name: "b" }];
       },
       defaultExport: () => "a",
       async open({ exportName, readonly, tls }) {
         console.error(["open", exportName, readonly, tls].join(" "));
         if (exportName === "gone") throw failure("ENOENT", "gone");
         return Buffer.alloc(exportName === "b" ? 2048 : 1024, exportName);
       },
       getSize: (disk) => disk.length,
       pread(disk, buf, offset) { disk.copy(buf, 0, offset); },
     });`,
  );
  return path;
}

const EXPORTNAME = [
  ["ours", "--filter=exportname"],
  ["nbdkit's", `--filter=${debianFilter("exportname")}`],
] as const;

describe.each(EXPORTNAME)(
  "exportname, %s, in front of a plugin in TypeScript",
  (_whose, filter) => {
    const sizes = async (
      socket: string,
      names: readonly string[],
    ): Promise<(number | string)[]> => {
      const found: (number | string)[] = [];
      for (const name of names) {
        const client = await connectClient({ path: socket }, { exportName: name }).catch(
          () => null,
        );
        found.push(client === null ? "refused" : client.size);
        await client?.close();
      }
      return found;
    };

    test("passes on the plugin's exports", async () => {
      const server = await startServer([filter, namesModule()]);
      expect(await listExports({ path: server.socket })).toEqual([
        { name: "a", description: "first" },
        { name: "b", description: "" },
      ]);
      expect(await sizes(server.socket, ["", "a", "b", "c", "gone"])).toEqual([
        ...[1024, 1024, 2048, 1024],
        "refused",
      ]);
      const { stderr } = await server.stop();
      expect(stderr).toContain("preconnect false");
      expect(stderr).toContain("names: gone");
    });

    test("gives another default and refuses other names", async () => {
      const words = ["exportname=b", "exportname-strict=true", "default-export=b"];
      const server = await startServer([filter, namesModule(), ...words]);
      expect(await sizes(server.socket, ["a", "b"])).toEqual(["refused", 2048]);
      const { stderr } = await server.stop();
      expect(stderr).not.toContain("open a");
    });

    test("lists names of its own, for read-only clients too", async () => {
      const words = ["-r", "exportname-list=explicit", "exportname=x"];
      const server = await startServer([filter, namesModule(), ...words]);
      const names = (await listExports({ path: server.socket })).map(({ name }) => name);
      expect(names).toEqual(["x"]);
      expect(await sizes(server.socket, ["b"])).toEqual([2048]);
      const { stderr } = await server.stop();
      expect(stderr).toContain("open b true false");
    });

    test("serves reads", async () => {
      const server = await startServer([filter, namesModule()]);
      const client = await connectClient({ path: server.socket }, { exportName: "b" });
      expect((await client.read(0, 2048)).equals(Buffer.alloc(2048, "b"))).toBe(true);
      await client.close();
      await server.stop();
    });

    test("a plugin's failure or rejection is passed on", async () => {
      const failing = await startServer([filter, namesModule(), "fail=list"]);
      await expect(listExports({ path: failing.socket })).rejects.toThrow();
      expect((await failing.stop()).stderr).toContain("names: no list today");
      const rejecting = await startServer([filter, namesModule(), "fail=preconnect"]);
      expect(await isRefused(rejecting.socket)).toBe(true);
      await rejecting.stop();
    });

    test("a plugin that never answers costs only its client, and the server can end", async () => {
      const server = await startServer([filter, namesModule(), "fail=silent"]);
      const asking = await RawClient.connect(server.socket);
      asking.sendOption(OPT.LIST); // NBD_OPT_LIST
      expect(await sizes(server.socket, ["b"])).toEqual([2048]);
      asking.socket.destroy();
      await server.stop();
    });
  },
);

test.each([
  ["exportname", "--filter=exportname", []],
  ["log", `--filter=${debianFilter("log")}`, ["logfile=/dev/null"]],
])("%s is refused if nothing could ask it", async (name, filter, words) => {
  const args = ["-U", "-", passingFilter(), filter, namesModule(), ...words];
  const { status, stderr } = await runAsyncnbd([...args, "--run", "true"]);
  expect(status).toBe(1);
  expect(stderr).toContain(`filter ${name}: it needs to see clients before they open`);
});

test("nbdkit's log filter over a plugin in TypeScript logs all requests", async () => {
  const log = join(temporaryDirectory(), "log");
  const filter = `--filter=${debianFilter("log")}`;
  const server = await startServer([filter, namesModule(), `logfile=${log}`]);
  await listExports({ path: server.socket });
  const client = await connectClient({ path: server.socket }, { exportName: "b" });
  await client.read(0, 512);
  await client.close();
  await server.stop();
  const lines = readFileSync(log, "utf8");
  expect(lines).toMatch(/Preconnect id=1 readonly=0/);
  expect(lines).toMatch(/ListExports id=\d+ readonly=0 tls=0/);
  expect(lines).toMatch(/ListExports id=\d+ exports=\(a b\) return=0/);
  expect(lines).toMatch(/connection=\d+ Connect export=b tls=0 size=0x800/);
  expect(lines).toMatch(/Read id=1 offset=0x0 count=0x200/);
});
