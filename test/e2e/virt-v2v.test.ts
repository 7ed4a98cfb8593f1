// virt-v2v's ways with nbdkit: what it asks before, the command lines of its inputs and outputs (its
// lib/nbdkit.ml, input/nbdkit_*.ml and output/output.ml), and how its servers end. What is remote is
// on this machine here; VDDK is a stand-in.

import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { environment, startNbdkit, uriOf } from "../support/as-nbdkit.js";
import { run, runOk } from "../support/command.js";
import { MIB, patternBytes } from "../support/fixtures.js";
import { startHttp } from "../support/http-server.js";
import { isRunning } from "../support/process.js";
import { eventually, sanitizer, temporaryDirectory } from "../support/server.js";
import { startSshd } from "../support/ssh-server.js";

/** The first half is data, then there is a hole. */
function diskBytes(): Buffer {
  return Buffer.concat([patternBytes(4 * MIB), Buffer.alloc(4 * MIB)]);
}

/** The words of every command line; `name`: of the socket. */
function words(directory: string, name: string, ...debugFlags: string[]): string[] {
  const pidFile = join(directory, `${name}.pid`);
  const flags = ["nbdkit.backend.datapath=0", ...debugFlags].flatMap((flag) => ["-D", flag]);
  return ["--exit-with-parent", "--foreground", "--pidfile", pidFile].concat(
    ["--unix", join(directory, name), "--threads", "16"],
    flags,
  );
}

const filters = (...names: string[]): string[] => names.flatMap((name) => ["--filter", name]);

const qemuIo = (uri: string, ...commands: string[]): Promise<string> =>
  runOk(["qemu-io", "-f", "raw", ...commands.flatMap((command) => ["-c", command]), uri]);

const copy = (from: string, to: string): Promise<string> =>
  runOk(["nbdcopy", from, to, "--requests=64", "--flush", "--progress"]);

// The programs that plugins and tests start do not run with a sanitizer's library.
describe.skipIf(sanitizer)("virt-v2v", () => {
  const sh = async (command: string): Promise<number> =>
    (await run(["sh", "-c", command], { env: environment() })).status;

  test.each([
    ["nbdkit --version >/dev/null 2>&1", 0],
    ["nbdkit 'vddk' --version >/dev/null 2>&1", 0],
    ["nbdkit 'nosuch' --version >/dev/null 2>&1", 1],
    ...["cow", "retry", "cacheextents", "readahead", "rate", "blocksize", "noextents"].map(
      (name): [string, number] => [`nbdkit null --filter='${name}' --version >/dev/null 2>&1`, 0],
    ),
    ["nbdkit null --filter='multi-conn' --version >/dev/null 2>&1", 0],
    ["nbdkit null --filter='nosuch' --version >/dev/null 2>&1", 1],
    ["nbdkit null --filter='cow' --help | grep -sq 'cow-on-read=.*/PATH'", 0],
    ["nbdkit null --filter='cow' --help | grep -sq 'cow-block-size'", 0],
    ["nbdkit null --filter='cow' --help | grep -sq 'cow-no-such'", 1],
    ["nbdkit vddk --dump-plugin >/dev/null", 0],
  ])("queries: %s", async (command, status) => {
    expect(await sh(command)).toBe(status);
  });

  test("finds a version that is new enough", async () => {
    const config = await runOk(["sh", "-c", "nbdkit --dump-config"], { env: environment() });
    const [, minor] = /^version=1\.(\d+)\.\d+$/m.exec(config) ?? [];
    expect(Number(minor)).toBeGreaterThanOrEqual(22);
  });

  test("converts a disk of VDDK through an overlay into a local file", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    const disk = diskBytes();
    writeFileSync(at("disk.vmdk"), disk);
    writeFileSync(at("password"), "secret\n");
    mkdirSync(at("libdir"));
    const source = await startNbdkit(
      [
        ...words(directory, "in0", "vddk.stats=1", "vddk.datapath=0"),
        "--verbose",
        ...filters("rate", "multi-conn", "cow", "blocksize", "retry"),
        ...["vddk", "server=vcenter.test", "vm=moref=vm-1", `file=${at("disk.vmdk")}`],
        ...["user=root", `libdir=${at("libdir")}`, "nfchostport=902", "snapshot=snapshot-1"],
        ...["thumbprint=aa:bb", "transports=nbdssl:nbd", "minblock=512", "maxdata=2M"],
        ...["multi-conn-mode=disable", "cow-block-size=4096", `cow-on-read=${at("convert")}`],
        ...["rate=8G", `password=+${at("password")}`],
      ],
      { withParent: true },
    );
    const conversion = patternBytes(MIB, 7);
    writeFileSync(at("convert"), "");
    writeFileSync(at("boot"), conversion);
    await qemuIo(
      uriOf(at("in0")),
      "read -q 1M 1M",
      `write -q -s ${at("boot")} 100k ${MIB}`,
      "write -q -z -u 3M 512k",
      "discard -q 5M 1M",
      "flush",
    );
    conversion.copy(disk, 100 << 10);
    disk.fill(0, 3 * MIB, 3.5 * MIB);

    writeFileSync(at("out.img"), "");
    truncateSync(at("out.img"), disk.length);
    const target = [...words(directory, "out0"), "file", `file=${at("out.img")}`, "cache=none"];
    const output = await startNbdkit(target, { withParent: true });
    await copy(uriOf(at("in0")), uriOf(at("out0")));
    expect(readFileSync(at("out.img")).equals(disk)).toBe(true);
    expect(readFileSync(at("disk.vmdk")).equals(diskBytes())).toBe(true);
    expect(statSync(at("out.img")).blocks * 512).toBeLessThan(disk.length * 0.6); // it is sparse

    for (const server of [source, output]) server.child.kill("SIGKILL");
    await eventually("the end with the parents", () =>
      [source, output].some(({ pid }) => isRunning(pid)) ? undefined : true,
    );
    const stats = /VDDK function stats: QueryAllocatedBlocks \d/;
    await eventually("its last words", () => stats.test(source.output()) || undefined);
    expect(source.output()).not.toContain("VixDiskLib_Read");
  });

  test("reads from vCenter over HTTP with a cookie, even if a request fails", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    const disk = diskBytes();
    let failures = 1;
    const url = await startHttp(disk, ({ headers }) => {
      if (headers.cookie !== "vmware_soap_session=1") return 401;
      const fails = headers.range !== undefined && failures-- > 0;
      return fails ? 503 : undefined;
    });
    writeFileSync(at("v2vcs.sh"), "#!/bin/sh -\n\necho vmware_soap_session=1\n", { mode: 0o700 });
    const server = await startNbdkit([
      ...words(directory, "in0"),
      ...filters("cow", "cacheextents", "retry"),
      ...["curl", `url=${url}/folder/disk-flat.vmdk?dcPath=a&dsName=b`, "timeout=2000"],
      ...[`cookie-script=${at("v2vcs.sh")}`, "cookie-script-renew=1500", "sslverify=false"],
      `cow-on-read=${at("convert")}`,
    ]);
    await qemuIo(uriOf(at("in0")), "write -q -P 9 64k 64k", "flush");
    disk.fill(9, 64 << 10, 128 << 10);
    await copy(uriOf(at("in0")), at("copy"));
    expect(readFileSync(at("copy")).equals(disk)).toBe(true);
    expect(failures).toBeLessThan(0);
    server.child.kill("SIGTERM");
    expect(await server.ended).toEqual([0, null]);
  });

  test("reads a file of a Xen host over ssh", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    const disk = diskBytes();
    writeFileSync(at("disk.img"), disk);
    const [host, port, user, ...keys] = await startSshd();
    const server = await startNbdkit([
      ...words(directory, "in0"),
      ...filters("rate", "cow", "cacheextents", "readahead", "retry"),
      ...["ssh", host as string, `path=${at("disk.img")}`, port as string, user as string],
      ...keys, // which are the user's own there
      ...[`cow-on-read=${at("convert")}`, "rate=1G", `rate-file=${at("rate")}`],
    ]);
    await copy(uriOf(at("in0")), at("copy"));
    expect(readFileSync(at("copy")).equals(disk)).toBe(true);
    server.child.kill("SIGTERM");
    expect(await server.ended).toEqual([0, null]);
  });

  test("converts a local disk to nowhere", async () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, "disk.img"), diskBytes());
    const disk = ["file", `file=${join(directory, "disk.img")}`, "cache=none"];
    await startNbdkit([...words(directory, "in0"), ...filters("cow"), ...disk]);
    await startNbdkit([...words(directory, "out0"), "null", "size=7E"]);
    await copy(uriOf(join(directory, "in0")), uriOf(join(directory, "out0")));
  });

  test("uploads through a Python script of its own", async () => {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    writeFileSync(
      at("rhv-upload-plugin.py"),
      `import builtins, json, os, nbdkit
API_VERSION = 2
def config(key, value):
    global params
    if key != "params":
        raise RuntimeError("unknown parameter " + key)
    with builtins.open(value) as f:
        params = json.load(f)
def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL
def after_fork():
    global file
    file = os.open(params["file"], os.O_RDWR)
def open(readonly):
    return 1
def can_multi_conn(h):
    return True
def get_size(h):
    return params["disk_size"]
def pread(h, buf, offset, flags):
    buf[:] = os.pread(file, len(buf), offset)
def pwrite(h, buf, offset, flags):
    os.pwrite(file, buf, offset)
def flush(h, flags):
    pass
`,
    );
    const disk = diskBytes();
    writeFileSync(at("disk.img"), disk);
    writeFileSync(at("upload"), "");
    truncateSync(at("upload"), disk.length);
    const parameters = { disk_size: disk.length, file: at("upload") };
    writeFileSync(at("params.json"), JSON.stringify(parameters));
    const script = at("rhv-upload-plugin.py");
    expect(await sh(`nbdkit python '${script}' --dump-plugin >/dev/null`)).toBe(0);
    const all = words(directory, "out0").map((word) => (word === "16" ? "8" : word));
    const plugin = ["python", `script=${script}`, `params=${at("params.json")}`];
    const server = await startNbdkit([...all, ...plugin]);
    await copy(at("disk.img"), uriOf(at("out0")));
    expect(readFileSync(at("upload")).equals(disk)).toBe(true);
    server.child.kill("SIGTERM");
    expect(await server.ended).toEqual([0, null]);
  });
});
