// The binaries of the tarball: which systems they need, and what users of other systems are told.

import { execFileSync } from "node:child_process";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, inject, test } from "vitest";
import { run, runOk } from "../support/command.js";
import { temporaryDirectory } from "../support/server.js";

/** The newest version of each kind of symbol that the oldest system has: RHEL 9, with GCC 11's. */
const OLDEST_SYSTEM: Readonly<Record<string, string>> = {
  GLIBC: "2.34",
  GLIBCXX: "3.4.29",
  CXXABI: "1.3.13",
  GCC: "11.0",
};

const LIBRARIES = /^(libc|libm|libstdc\+\+|libgcc_s|ld-linux-[\w-]+)\.so\.\d$/;

/** Debian's names of other processors' tools. */
const TOOL_PREFIXES: Readonly<Record<string, string>> = { arm64: "aarch64-linux-gnu-" };

const OWN = `linux-${process.arch}`;

function unpack(): string {
  const directory = temporaryDirectory();
  execFileSync("tar", ["-xzf", inject("tarball"), "-C", directory]);
  return join(directory, "package");
}

const isNewer = (version: string, than: string): boolean =>
  version.localeCompare(than, "en", { numeric: true }) > 0;

function toolFor(platform: string): string {
  const architecture = platform.replace("linux-", "");
  return `${platform === OWN ? "" : TOOL_PREFIXES[architecture]}objdump`;
}

/** What of a binary's needs the oldest system lacks. */
async function missing(objdump: string, path: string): Promise<string[]> {
  const symbols = await runOk([objdump, "-T", path]);
  const versioned = [...symbols.matchAll(/\b(GLIBC|GLIBCXX|CXXABI|GCC)_([\w.]+)\)? +(\S+)$/gm)];
  expect(versioned, path).not.toEqual([]);
  return versioned
    .filter(([, kind, version]) => isNewer(version as string, OLDEST_SYSTEM[kind as string] ?? "0"))
    .map(([, kind, version, name]) => `${name} of ${kind}_${version}`);
}

test("run on RHEL 9 and need no uncommon library", async () => {
  const prebuilds = join(unpack(), "prebuilds");
  const platforms = readdirSync(prebuilds);
  expect(platforms).toContain(OWN);
  for (const platform of platforms) {
    const files = readdirSync(join(prebuilds, platform)).filter((f) => /\.(node|so)$/.test(f));
    expect(files).toContain("asyncnbd.node");
    expect(files).toContain("nbdkit-async-file-plugin.so");
    for (const file of files) {
      const path = join(prebuilds, platform, file);
      const objdump = toolFor(platform);
      expect(await missing(objdump, path), path).toEqual([]);
      const headers = await runOk([objdump, "-p", "-h", path]);
      const needed = [...headers.matchAll(/NEEDED +(\S+)/g)].map((m) => m[1] as string);
      expect(
        needed.filter((library) => !LIBRARIES.test(library)),
        path,
      ).toEqual([]);
      expect(headers).not.toContain(".debug_");
      expect(headers, path).toContain("RELRO"); // which strip loses where it removes a section
    }
  }
});

describe("if none fits, one line names the supported systems and how to build one", () => {
  const REMEDY =
    "; the package has binaries for x64 and arm64, for Linux with glibc 2.34 or newer " +
    "(Debian 12, Ubuntu 22.04, RHEL 9); for another processor or an older glibc, not for musl, " +
    'build them in a clone of its repository with "npm ci"\n';

  const start = (root: string, env = {}) =>
    run([process.execPath, join(root, "dist", "cli", "main.js"), "-f", "memory", "1M"], {
      env: { ...process.env, ...env },
    });

  /** A library that needs one with a version, or under a name, that this system has not. */
  async function replaceAddon(root: string, soname: string, version: string): Promise<void> {
    const directory = temporaryDirectory();
    const at = (name: string): string => join(directory, name);
    writeFileSync(at("needed.c"), "int needed(void) { return 0; }\n");
    writeFileSync(at("needed.map"), `${version} { global: needed; };\n`);
    writeFileSync(at("addon.c"), "int needed(void);\nint call(void) { return needed(); }\n");
    const library = `-Wl,-soname,${soname},--version-script=${at("needed.map")}`;
    const shared = ["cc", "-shared", "-fPIC", "-nostdlib"];
    await runOk([...shared, library, "-o", at("needed.so"), at("needed.c")]);
    const addon = join(root, "prebuilds", OWN, "asyncnbd.node");
    rmSync(addon);
    await runOk([...shared, "-o", addon, at("addon.c"), at("needed.so")]);
  }

  test("an older glibc", async () => {
    const root = unpack();
    await replaceAddon(root, "libc.so.6", "GLIBC_2.99");
    const { status, stderr } = await start(root);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^asyncnbd: error: cannot load \S+asyncnbd\.node: .*GLIBC_2\.99' not found.*\n$/,
    );
    expect(stderr.endsWith(REMEDY)).toBe(true);
  });

  test("another C library", async () => {
    const root = unpack();
    await replaceAddon(root, "ld-other-x86-64.so.2", "GLIBC_2.3");
    const { status, stderr } = await start(root);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^asyncnbd: error: cannot load \S+: ld-other-x86-64\.so\.2: .*\n$/);
    expect(stderr.endsWith(REMEDY)).toBe(true);
  });

  test("another processor", async () => {
    const other = 'Object.defineProperty(process, "arch", { value: "riscv64" });';
    const preload = `--import=data:text/javascript,${encodeURIComponent(other)}`;
    const { status, stderr } = await start(unpack(), { NODE_OPTIONS: preload });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^asyncnbd: error: there is no \S+linux-riscv64\/asyncnbd\.node; .*\n$/);
    expect(stderr.endsWith(REMEDY)).toBe(true);
  });

  test("a missing build of one's own", async () => {
    const { status, stderr } = await start(unpack(), { ASYNCNBD_BUILD_DIR: "/nonexistent" });
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^asyncnbd: error: there is no \/nonexistent\/asyncnbd\.node; build it again with .*\n$/,
    );
  });
});

test("a build in the package's folder comes first, and so does ASYNCNBD_BUILD_DIR", async () => {
  const root = unpack();
  const directoryOf = (env = {}): Promise<string> =>
    runOk([process.execPath, join(root, "dist", "cli", "main.js"), "--dump-config"], {
      env: { ...process.env, ...env },
    });
  const line = (directory: string): string => `asyncnbd_plugindir=${directory}\n`;
  expect(await directoryOf()).toContain(line(join(root, "prebuilds", OWN)));
  execFileSync("mkdir", ["-p", join(root, "build")]);
  execFileSync("cp", ["-r", join(root, "prebuilds", OWN), join(root, "build", "Release")]);
  expect(await directoryOf()).toContain(line(join(root, "build", "Release")));
  expect(await directoryOf({ ASYNCNBD_BUILD_DIR: "/other" })).toContain(line("/other"));
});
