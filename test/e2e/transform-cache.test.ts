// What a plugin in TypeScript was made into is kept for the next start, and never in its way.

import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { runAsyncnbd, temporaryDirectory } from "../support/server.js";

const plugin = (name: string): string =>
  `const name: string = ${JSON.stringify(name)};
   export default { name, getSize: () => 512, pread() {}, longname: "made of " + name };`;

class Cache {
  readonly home = temporaryDirectory();
  readonly directory = join(this.home, "asyncnbd");
  readonly path = join(temporaryDirectory(), "plugin.ts");

  /** What the plugin is, when it is loaded now. */
  async load(text?: string): Promise<string | undefined> {
    if (text !== undefined) writeFileSync(this.path, text);
    const env = { ...process.env, XDG_CACHE_HOME: this.home };
    const { stdout } = await runAsyncnbd(["--dump-plugin", this.path], { env });
    return /^longname=(.*)$/m.exec(stdout)?.[1];
  }

  get files(): string[] {
    return readdirSync(this.directory).map((name) => join(this.directory, name));
  }
}

test("a plugin is compiled again only if it has changed", async () => {
  const cache = new Cache();
  expect(await cache.load(plugin("one"))).toBe("made of one");
  const [made] = cache.files as [string];
  expect(await cache.load()).toBe("made of one");
  expect(cache.files).toEqual([made]);
  expect(await cache.load(plugin("two"))).toBe("made of two");
  expect(cache.files).toHaveLength(2);
});

test.each([
  ["was cut off", (file: string) => writeFileSync(file, readFileSync(file).subarray(0, -30))],
  ["was changed", (file: string) => writeFileSync(file, `x${readFileSync(file, "utf8")}`)],
  ["is empty", (file: string) => writeFileSync(file, "")],
  ["others may write to", (file: string) => chmodSync(file, 0o666)],
])("a cached file is ignored if it %s", async (what, spoil) => {
  const cache = new Cache();
  await cache.load(plugin("one"));
  const [made] = cache.files as [string];
  if (what.startsWith("others")) {
    const other = readFileSync(made, "utf8").split("\n").slice(1).join("\n").replace("one", "two");
    const { createHash } = await import("node:crypto");
    writeFileSync(made, `${createHash("sha256").update(other).digest("hex")}\n${other}`);
    expect(await cache.load()).toBe("made of two"); // that this is how to forge it
  }
  spoil(made);
  expect(await cache.load()).toBe("made of one");
});

test("a cache folder that cannot be made, or that others may write to, is not used", async () => {
  const cache = new Cache();
  mkdirSync(cache.directory);
  chmodSync(cache.directory, 0o777);
  expect(await cache.load(plugin("one"))).toBe("made of one");
  expect(cache.files).toEqual([]);
  const blocked = new Cache();
  writeFileSync(blocked.directory, "a file");
  expect(await blocked.load(plugin("one"))).toBe("made of one");
});

test("other files stay in the folder, and our oldest are still removed", async () => {
  const cache = new Cache();
  mkdirSync(join(cache.directory, "subfolder"), { recursive: true, mode: 0o700 });
  writeFileSync(join(cache.directory, "precious.txt"), "data");
  const ours = Array.from({ length: 130 }, (_, i) => `${`${i}`.padStart(64, "0")}.js`);
  for (const name of ours) {
    writeFileSync(join(cache.directory, name), "");
    utimesSync(join(cache.directory, name), 1e9, 1e9);
  }
  for (const name of ["subfolder", "precious.txt"]) utimesSync(join(cache.directory, name), 1, 1);
  expect(await cache.load(plugin("one"))).toBe("made of one");
  const left = readdirSync(cache.directory);
  expect(left).toEqual(expect.arrayContaining(["subfolder", "precious.txt"]));
  expect(left.filter((name) => name.endsWith(".js"))).toHaveLength(128);
});

test.skipIf(process.getuid?.() !== 0)("root creates nothing in another user's home", async () => {
  const home = temporaryDirectory();
  chownSync(home, 65534, 65534);
  const path = join(temporaryDirectory(), "plugin.ts");
  writeFileSync(path, plugin("one"));
  const env = { ...process.env, HOME: home, XDG_CACHE_HOME: undefined };
  expect((await runAsyncnbd(["--dump-plugin", path], { env })).stdout).toContain("made of one");
  expect(readdirSync(home)).toEqual([]);
});

test("a plugin with an error of syntax is not kept", async () => {
  const cache = new Cache();
  expect(await cache.load("export default {")).toBeUndefined();
  expect(cache.files).toEqual([]);
});
