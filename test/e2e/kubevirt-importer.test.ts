// The ways of KubeVirt's Containerized Data Importer with nbdkit: the command lines of its
// pkg/image/nbdkit.go, read by qemu-img as there, and its end by SIGINT. What is remote is on this
// machine here; VDDK is a stand-in.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { environment, type Nbdkit, startNbdkit, uriOf } from "../support/as-nbdkit.js";
import { run, runOk } from "../support/command.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { type Refusal, startHttp } from "../support/http-server.js";
import { isRunning } from "../support/process.js";
import { eventually, sanitizer, temporaryDirectory } from "../support/server.js";

function diskBytes(): Buffer {
  return Buffer.concat([patternBytes(3 * MIB), Buffer.alloc(5 * MIB)]);
}

/** Those of every command line, with the filters between them and the plugin's. */
const words = (directory: string, ...filters: string[]): string[] => [
  ...["--foreground", "--readonly", "--exit-with-parent", "-U", join(directory, "nbdkit.sock")],
  ...["--pidfile", join(directory, "nbdkit.pid"), ...filters.map((name) => `--filter=${name}`)],
];

const USER_AGENT = "cdi-nbdkit-importer";
const CREDENTIALS = `Basic ${Buffer.from("key:secret").toString("base64")}`;

const curlWords = (url: string): string[] => [
  ...["-r", "curl", `header=User-Agent: ${USER_AGENT}`, "user=key", "password=secret"],
  ...["header=X-Extra: 1", "retry-exponential=no", "header=X-Secret: 2", `url=${url}`],
];

function refuse({ headers }: IncomingMessage): Refusal {
  const isRight =
    headers["user-agent"] === USER_AGENT &&
    headers["x-extra"] === "1" &&
    headers["x-secret"] === "2";
  if (!isRight) return 400;
  return headers.authorization === CREDENTIALS ? undefined : 401;
}

/** Compressed by a program of the system. */
const compressed = (program: string, content: Buffer): Buffer =>
  execFileSync(program, ["--block-size=1MiB", "-c"], { input: content, maxBuffer: 64 * MIB });

/** An archive of one file. */
function tarOf(name: string, content: Buffer): Buffer {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, name), content);
  return execFileSync("tar", ["-C", directory, "-c", name], { maxBuffer: 64 * MIB });
}

async function importFrom(directory: string): Promise<Buffer> {
  const uri = uriOf(join(directory, "nbdkit.sock"));
  const info = JSON.parse(await runOk(["qemu-img", "info", "--output=json", uri]));
  expect(info.format).toBe("raw");
  const target = join(directory, "disk.img");
  await runOk(["qemu-img", "convert", "-t", "writeback", "-p", "-O", "raw", uri, target]);
  return readFileSync(target);
}

async function interrupt(server: Nbdkit): Promise<void> {
  server.child.kill("SIGINT");
  expect(await server.ended).toEqual([0, null]);
}

// The programs that plugins and tests start do not run with a sanitizer's library.
describe.skipIf(sanitizer)("the importer of KubeVirt", () => {
  test("imports what a web server has", async () => {
    const url = await startHttp(diskBytes(), refuse);
    const directory = temporaryDirectory();
    const server = await startNbdkit([
      ...words(directory, "readahead", "retry"),
      ...curlWords(`${url}/disk.img`),
    ]);
    expect((await importFrom(directory)).equals(diskBytes())).toBe(true);
    await interrupt(server);
  });

  test.each<[string, (disk: Buffer) => Buffer, string[]]>([
    ["gzip", gzipSync, []],
    ["xz", (disk) => compressed("xz", disk), []],
    ["tar", (disk) => tarOf("disk.raw", disk), ["tar-entry=disk.raw"]],
  ])("imports what a web server has as %s", async (filter, archive, more) => {
    const url = await startHttp(archive(diskBytes()), refuse);
    const directory = temporaryDirectory();
    const server = await startNbdkit([
      ...words(directory, filter, "retry"),
      ...curlWords(`${url}/disk`),
      ...more,
    ]);
    expect((await importFrom(directory)).equals(diskBytes())).toBe(true);
    await interrupt(server);
  });

  test("imports a disk of VDDK, and asks about extents once", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    writeFileSync(at("disk.vmdk"), diskBytes());
    mkdirSync(at("lib"));
    const env = environment({ LD_LIBRARY_PATH: at("lib") });
    const libdir = `libdir=${at("lib")}`;
    const dump = await run(["nbdkit", "--dump-plugin", "vddk", libdir], { env });
    expect(dump).toMatchObject({ status: 0, stderr: "" });
    expect(dump.stdout).toMatch(/^vddk_default_libdir=/m);
    const server = await startNbdkit(
      [
        ...words(directory, "retry", "cacheextents"),
        ...["vddk", libdir, "server=vcenter.test", "user=root", "password=secret"],
        ...["thumbprint=aa:bb", "vm=moref=vm-1", "--verbose"],
        ...["-D", "nbdkit.backend.controlpath=0", "-D", "nbdkit.backend.datapath=0"],
        ...["-D", "vddk.datapath=0", "-D", "vddk.stats=1", `file=${at("disk.vmdk")}`],
      ],
      { env },
    );
    expect((await importFrom(directory)).equals(diskBytes())).toBe(true);
    await interrupt(server);
    const [, questions] = /QueryAllocatedBlocks (\d+)/.exec(server.output()) ?? [];
    expect(Number(questions)).toBeLessThan(12);
  });

  test("ends a failed import and leaves no server behind", async () => {
    let isThere = false;
    const url = await startHttp(diskBytes(), (request) => (isThere ? refuse(request) : 503));
    const directory = temporaryDirectory();
    const args = [...words(directory, "readahead", "retry"), ...curlWords(`${url}/disk.img`)];
    const server = await startNbdkit(args, { withParent: true });
    const imported = importFrom(directory);
    await eventually("a first failure", () => server.output().includes("503") || undefined);
    isThere = true;
    expect((await imported).equals(diskBytes())).toBe(true);
    server.child.kill("SIGKILL");
    await eventually("the end with the parent", () => (isRunning(server.pid) ? undefined : true));
  });
});
