// The tarball on a machine that has Node.js with its npm, and neither a network nor a compiler: it is
// installed, and serves.

import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, inject, test } from "vitest";
import { Authority } from "../support/certificates.js";
import { runOk } from "../support/command.js";
import { MIB, writePattern } from "../support/fixtures.js";
import { temporaryDirectory } from "../support/server.js";

const LARGEST_TARBALL_BYTES = 6e6;
/** It starts fifteen programs of Node.js. */
const DEADLINE_MS = 180_000;

/** Without root, one becomes it in a namespace of users. */
const NEW_NETWORK = process.getuid?.() === 0 ? "-n" : "-rn";

/** In a network of its own, which has this machine alone, and with nothing of our environment. */
const STRIPPED = 'ip link set lo up && exec env -i PATH="$1" HOME="$2" /bin/sh -ec "$3"';

class Machine {
  readonly home = temporaryDirectory();
  readonly #path = [join(this.home, "bin"), join(this.home, "installed", "bin")];

  constructor() {
    const [bin] = this.#path as [string];
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, "node"));
    const npm = execFileSync("sh", ["-c", "command -v npm"], { encoding: "utf8" }).trim();
    symlinkSync(realpathSync(npm), join(bin, "npm"));
  }

  /** A script for the shell, in which all but Node.js, npm and what was installed needs its path. */
  run(script: string): Promise<string> {
    const inside = ["sh", "-c", STRIPPED, "sh", this.#path.join(":"), this.home, script];
    return runOk(["unshare", NEW_NETWORK, ...inside], { cwd: this.home });
  }

  async install(tarball: string): Promise<void> {
    const options = "--offline --ignore-scripts --no-audit --no-fund --no-update-notifier";
    await this.run(`npm install --global --prefix "$HOME/installed" ${options} "${tarball}"`);
  }

  /** One of the package's examples, compiled elsewhere, with its header. Returns the plugin's path. */
  async compile(example: string): Promise<string> {
    const there = join(this.home, "installed", "lib", "node_modules", "asyncnbd");
    const plugin = join(this.home, `nbdkit-${example}-plugin.so`);
    const source = join(there, "examples", `${example}.c`);
    const include = join(there, "native", "include");
    await runOk(["cc", "-shared", "-fPIC", `-I${include}`, "-o", plugin, source]);
    return plugin;
  }

  /** Writes to what is served and reads it back, as the command of --run. */
  async copies(options: readonly string[], plugin: readonly string[]): Promise<void> {
    writePattern(join(this.home, "there"), 8 * MIB);
    const copy = '/usr/bin/nbdcopy there "$uri" && /usr/bin/nbdcopy "$uri" back';
    const compare = `/usr/bin/cmp -n ${8 * MIB} there back`;
    writeFileSync(join(this.home, "run.sh"), `uri=$1\n${copy} && ${compare}\n`);
    const words = [...options, "--run", '/bin/sh run.sh "$uri"', ...plugin];
    await this.run(`asyncnbd ${words.map((word) => `'${word}'`).join(" ")}`);
  }
}

test("the tarball is small, and has nothing that npm must fetch, compile or run", () => {
  const { size } = statSync(inject("tarball"));
  console.log(`the tarball has ${size} bytes`);
  expect(size).toBeLessThan(LARGEST_TARBALL_BYTES);
  const list = execFileSync("tar", ["-tzf", inject("tarball")], { encoding: "utf8" }).split("\n");
  expect(list.filter((file) => /\.gyp|native\/(?!include\/)/.test(file))).toEqual([]);
  expect(list).toContain("package/native/include/nbdkit-plugin.h");
  const manifest = JSON.parse(
    execFileSync("tar", ["-xzOf", inject("tarball"), "package/package.json"], { encoding: "utf8" }),
  );
  expect(Object.keys(manifest.dependencies)).toEqual(manifest.bundleDependencies);
  expect(Object.keys(manifest.scripts).filter((name) => /install|prepare/.test(name))).toEqual([]);
});

test("no file of it names a source map, for it has none", () => {
  const folder = temporaryDirectory();
  execFileSync("tar", ["-xzf", inject("tarball"), "-C", folder, "package/dist"]);
  const dist = join(folder, "package", "dist");
  const files = readdirSync(dist, { recursive: true, encoding: "utf8" });
  const programs = files.filter((file) => /\.c?js$/.test(file));
  expect(programs.length).toBeGreaterThan(10);
  expect(files.filter((file) => file.endsWith(".map"))).toEqual([]);
  const naming = (file: string): boolean =>
    readFileSync(join(dist, file), "utf8").includes("sourceMappingURL");
  expect(programs.filter(naming)).toEqual([]);
});

describe("installed without a network", { timeout: DEADLINE_MS }, () => {
  test("it serves in the background, serves plugins in C and TypeScript, and encrypts", async () => {
    const machine = new Machine();
    const begin = performance.now();
    await machine.install(inject("tarball"));
    const kib = execFileSync("du", ["-sk", join(machine.home, "installed")], { encoding: "utf8" });
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    console.log(`installed in ${seconds} s: ${Number.parseInt(kib, 10)} KiB`);

    const size = await machine.run(`
      asyncnbd -P pid memory 1G
      read pid < pid
      /usr/bin/nbdinfo --size nbd://localhost
      kill "$pid"
      /usr/bin/tail --pid="$pid" -f /dev/null`);
    expect(size).toBe(`${1 << 30}\n`);

    await machine.copies([], ["memory", "64M"]);
    await machine.copies(["--filter=cow"], [await machine.compile("ramdisk")]);
    await machine.copies([], ["delay-memory", "size=64M"]);
    writeFileSync(join(machine.home, "disk.img"), Buffer.alloc(8 * MIB));
    await machine.copies([], ["async-file", "disk.img"]);
    await machine.copies([], ["ram", "64M"]);
    const certificates = new Authority().issue("server");
    await machine.copies(["--tls=require", `--tls-certificates=${certificates}`], ["ram", "64M"]);
    const there = readFileSync(join(machine.home, "there"));
    expect(readFileSync(join(machine.home, "disk.img")).equals(there)).toBe(true);
  });
});
