// Unix sockets in the file system: what a start takes over, what an end removes, and what of
// servers that were killed the next one clears away.

import { spawn } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { runOk } from "../support/command.js";
import {
  clean,
  eventually,
  runAsyncnbd,
  startServer,
  temporaryDirectory,
} from "../support/server.js";

const SIZE = clean('nbdinfo --size "$uri"');

/** Something else takes the place of a server's socket, with data in it. */
function replace(socket: string): string {
  rmSync(socket);
  mkdirSync(socket);
  const data = join(socket, "data");
  writeFileSync(data, "precious");
  return data;
}

describe("the end", () => {
  test("leaves a folder that took the socket's place, with its contents", async () => {
    const server = await startServer(["memory", "1M"]);
    const data = replace(server.socket);
    await server.stop();
    expect(readFileSync(data, "utf8")).toBe("precious");
  });

  test("leaves another server's socket that took its place", async () => {
    const first = await startServer(["memory", "1M"]);
    rmSync(first.socket);
    const command = ["-f", "-U", first.socket, "memory", "2M", "--run"];
    const second = runAsyncnbd([...command, clean(`kill ${first.pid}; cat; ${SIZE}`)], {
      input: "",
    });
    expect(await first.ended).toMatchObject({ status: 0 });
    expect((await second).stdout).toBe("2097152\n");
  });
});

describe("a path that is taken", () => {
  const listen = (socket: string) => runAsyncnbd(["-U", socket, "memory", "1M", "--run", SIZE]);

  test("by a socket that refuses connections is taken over and logged", async () => {
    const server = await startServer(["memory", "1M"]);
    server.kill("SIGKILL");
    await server.ended;
    const { stdout, stderr } = await listen(server.socket);
    expect(stdout).toBe("1048576\n");
    expect(stderr).toBe(`asyncnbd: warning: replaced the stale socket ${server.socket}\n`);
  });

  test("by a live server's socket is an error, and that server goes on", async () => {
    const server = await startServer(["memory", "2M"]);
    expect(await listen(server.socket)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("already in use"),
    });
    expect((await runOk(["nbdinfo", "--size", server.uri])).trim()).toBe("2097152");
    await server.stop();
  });

  test("by a datagram socket, a file or a folder is an error, and they stay", async () => {
    const directory = temporaryDirectory();
    const [datagram, file] = [join(directory, "datagram"), join(directory, "file")];
    const serve =
      "socket(S, AF_UNIX, SOCK_DGRAM, 0); bind(S, pack_sockaddr_un(shift)) or die; sleep";
    const other = spawn("perl", ["-MSocket", "-e", serve, datagram]);
    onTestFinished(() => void other.kill());
    await eventually("the datagram socket", () => existsSync(datagram) || undefined);
    writeFileSync(file, "precious");
    for (const path of [datagram, file, directory]) {
      const { ino } = lstatSync(path);
      expect((await listen(path)).status).toBe(1);
      expect(lstatSync(path).ino).toBe(ino);
    }
  });
});

describe("the folder of a private socket", () => {
  const start = (TMPDIR: string, command: string, ...options: string[]) =>
    runAsyncnbd([...options, "memory", "1M", "--run", clean(command)], { env: { TMPDIR } });

  /** The folder of a server that ended so that it could remove nothing. */
  async function killed(TMPDIR: string): Promise<string> {
    const before = readdirSync(TMPDIR);
    await start(TMPDIR, "kill -9 $PPID");
    const name = readdirSync(TMPDIR).find((entry) => !before.includes(entry)) as string;
    expect(readdirSync(join(TMPDIR, name)).sort()).toEqual(["lock", "socket"]);
    return join(TMPDIR, name);
  }

  test("has an absolute path if TMPDIR is relative", async () => {
    const directory = temporaryDirectory(process.cwd());
    const { stdout } = await start(relative(process.cwd(), directory), `cd /; ${SIZE}`);
    expect(stdout).toBe("1048576\n");
    expect(readdirSync(directory)).toEqual([]);
  });

  const age = (path: string) => utimesSync(path, 1, 1);

  test("is removed at the next start when its server was killed a minute ago", async () => {
    const directory = temporaryDirectory();
    const left = await killed(directory);
    expect((await start(directory, "true")).status).toBe(0);
    expect(existsSync(left)).toBe(true);
    age(left);
    expect((await start(directory, "true")).status).toBe(0);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("stays while its server runs, however old it is", async () => {
    const directory = temporaryDirectory();
    const next = `env -u ASYNCNBD_BUILD_DIR TMPDIR=${directory} ${process.execPath} dist/cli/main.js memory 2M --run '${SIZE}'`;
    const { stdout, stderr } = await start(
      directory,
      `touch -d 1970-01-01 "\${unixsocket%/socket}"; ${next}; ${SIZE}`,
    );
    expect([stdout, stderr]).toEqual(["2097152\n1048576\n", ""]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("stays if it has other contents, no lock, or another place", async () => {
    const directory = temporaryDirectory();
    const [withData, withoutLock, elsewhere] = [
      await killed(directory),
      await killed(directory),
      await killed(temporaryDirectory()),
    ];
    writeFileSync(join(withData, "data"), "precious");
    rmSync(join(withoutLock, "lock"));
    symlinkSync(elsewhere, join(directory, "asyncnbdLINKED"));
    for (const path of [withData, withoutLock, elsewhere]) age(path);
    expect((await start(directory, "true")).status).toBe(0);
    expect(readdirSync(withData).sort()).toEqual(["data", "lock", "socket"]);
    expect(readdirSync(withoutLock)).toEqual(["socket"]);
    expect(readdirSync(elsewhere).sort()).toEqual(["lock", "socket"]);
  });

  test("is in /tmp if TMPDIR would make the socket's path too long", async () => {
    const directory = join(temporaryDirectory(), "x".repeat(90));
    mkdirSync(directory);
    for (const options of [[], ["-U", "-"]]) {
      const { stdout, stderr } = await start(directory, 'echo "$unixsocket"', ...options);
      expect(stdout).toMatch(/^\/tmp\/asyncnbd\w{6}\/socket\n$/);
      expect(stderr).toBe("");
    }
  });

  test("is in /tmp if TMPDIR does not exist, with one line in the log", async () => {
    const { status, stdout, stderr } = await start("/nonexistent/folder", 'echo "$unixsocket"');
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^\/tmp\/asyncnbd/)]);
    expect(stderr).toMatch(/^asyncnbd: warning: TMPDIR=\/nonexistent\/folder: .*\n$/);
  });
});
