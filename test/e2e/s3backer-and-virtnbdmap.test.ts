// Two programs that are built on nbdkit with a plugin of their own: s3backer (its main.c, with a
// stand-in for its plugin), and virtnbdmap of virtnbdbackup (its startNbdkitProcess).

import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { environment, startNbdkit, uriOf } from "../support/as-nbdkit.js";
import { run, runOk } from "../support/command.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { onFreePort } from "../support/free-port.js";
import { isRunning } from "../support/process.js";
import { eventually, sanitizer, temporaryDirectory } from "../support/server.js";

const ended = (pid: number): Promise<true> =>
  eventually("the server's end", () => (isRunning(pid) ? undefined : true));

// The programs that tests start do not run with a sanitizer's library.
describe.skipIf(sanitizer)("s3backer", () => {
  const parameters = (bucket: string): string[] => [
    ...["s3backer", "s3b_blockSize=128k", "s3b_size=8M", "s3b_ssl=true", `bucket=${bucket}`],
  ];

  test("in the foreground ends with its last client, after uploading", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    const disk = patternBytes(8 * MIB);
    writeFileSync(at("disk.img"), disk);
    writeFileSync(at("bucket"), "");
    const server = await startNbdkit([
      ...["--verbose", "--foreground", "--unix", at("sock"), "--filter=exitlast"],
      ...["--pidfile", at("pid"), ...parameters(at("bucket"))],
    ]);
    await runOk(["nbdcopy", "--connections=4", at("disk.img"), uriOf(at("sock"))]);
    expect(await server.ended).toEqual([0, null]);
    expect(readFileSync(at("bucket")).equals(disk)).toBe(true);
  });

  test("in the background ends on SIGTERM, after uploading", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    const disk = patternBytes(8 * MIB, 2);
    writeFileSync(at("disk.img"), disk);
    writeFileSync(at("bucket"), "");
    const words = ["nbdkit", "--unix", "sock", "--pidfile", "pid", ...parameters("bucket")];
    const { status } = await run(words, { env: environment(), cwd: directory });
    expect(status).toBe(0);
    const pid = Number(readFileSync(at("pid"), "utf8"));
    await runOk(["nbdcopy", at("disk.img"), uriOf(at("sock"))]);
    process.kill(pid, "SIGTERM");
    await ended(pid);
    expect(readFileSync(at("bucket")).equals(disk)).toBe(true);
  });

  test("is read-only on request", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    writeFileSync(at("bucket"), "");
    const options = ["--foreground", "--read-only", "--unix", at("sock"), "--pidfile", at("pid")];
    const server = await startNbdkit([...options, ...parameters(at("bucket"))]);
    const info = await runOk(["nbdinfo", "--json", uriOf(at("sock"))]);
    expect(JSON.parse(info).exports[0].is_read_only).toBe(true);
    server.child.kill("SIGTERM");
    expect(await server.ended).toEqual([0, null]);
    expect(statSync(at("bucket")).size).toBe(8 * MIB);
  });
});

/** A backup of pieces in one file, with a map that says what is where. */
function makeBackup(disk: Buffer, path: string): object[] {
  const map = [];
  const pieces = [];
  let offset = 0;
  for (let at = 0; at < disk.length; at += MIB) {
    const piece = disk.subarray(at, at + MIB);
    const data = piece.some((byte) => byte !== 0);
    map.push({ file: path, data, inc: false, originalOffset: at, offset, length: piece.length });
    if (!data) continue;
    pieces.push(piece);
    offset += piece.length;
  }
  writeFileSync(path, Buffer.concat(pieces));
  return map;
}

/** Reads that cross the end of a piece are errors, as of the real one. */
const MAP_PLUGIN = `
import builtins, json, os, pprint, nbdkit
API_VERSION = 2
def config(key, value):
    global pieces, path
    if key == "blockmap":
        with builtins.open(value) as f:
            pieces = json.load(f)
    elif key == "disk":
        path = value
    elif key != "debug":
        raise RuntimeError("unknown parameter " + key)
def config_complete():
    pprint.pprint(pieces)
def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL
def open(readonly):
    return os.open(path, os.O_RDONLY)
def get_size(h):
    return sum(piece["length"] for piece in pieces)
def pread(h, buf, offset, flags):
    piece = [p for p in pieces if p["originalOffset"] <= offset][-1]
    at = offset - piece["originalOffset"]
    nbdkit.debug("piece: %r" % piece)
    if at + len(buf) > piece["length"]:
        raise RuntimeError("a read beyond a piece")
    if piece["data"]:
        buf[:] = os.pread(h, len(buf), piece["offset"] + at)
    else:
        buf[:] = bytearray(len(buf))
`;

describe.skipIf(sanitizer)("virtnbdmap", () => {
  test("serves a backup that can be written to, in the background", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    const disk = Buffer.concat([patternBytes(2 * MIB), Buffer.alloc(MIB), patternBytes(MIB, 2)]);
    writeFileSync(at("map"), JSON.stringify(makeBackup(disk, at("full.data"))));
    writeFileSync(at("virtnbd-nbdkit-plugin"), MAP_PLUGIN);
    const port = await onFreePort(async (port) => {
      const command = [
        ...["nbdkit", "--pidfile", at("pid"), "-i", "127.0.0.1", "-p", `${port}`, "-e", "sda"],
        ...["--filter=blocksize", "--filter=cow", "-v", "python", at("virtnbd-nbdkit-plugin")],
        ...["maxlen=65536", `blockmap=${at("map")}`, `disk=${at("full.data")}`, "debug=0"],
        ...["-t", "1"],
      ];
      // It goes on to write there when the command has ended.
      const argv = ["sh", "-c", 'exec "$@" >"$0" 2>&1', at("log"), ...command];
      await runOk(argv, { env: environment() });
      return port;
    });
    expect(readFileSync(at("log"), "utf8")).toContain("'originalOffset': 0");
    const pid = Number(readFileSync(at("pid"), "utf8"));
    onTestFinished(() => {
      if (isRunning(pid)) process.kill(pid, "SIGKILL");
    });
    const uri = `nbd://127.0.0.1:${port}/sda`;
    await runOk(["qemu-io", "-f", "raw", "-c", "write -q -P 5 1000k 100k", "-c", "flush", uri]);
    disk.fill(5, 1000 << 10, 1100 << 10);
    await runOk(["nbdcopy", uri, at("copy")]);
    expect(readFileSync(at("copy")).equals(disk)).toBe(true);
    process.kill(pid, "SIGTERM");
    await ended(pid);
  });
});
