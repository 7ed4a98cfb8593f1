// The packed tarball, installed in an empty project as a user would.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeAll, expect, inject, test } from "vitest";
import { run, runOk } from "../support/command.js";

/** TypeScript comes by network. */
const INSTALL_DEADLINE_MS = 300_000;

let project = "";

const npm = (args: readonly string[], cwd: string): Promise<string> =>
  runOk(["npm", ...args, "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd,
    deadlineMs: INSTALL_DEADLINE_MS,
  });

beforeAll(async () => {
  project = mkdtempSync(join(tmpdir(), "asyncnbd-package-"));
  writeFileSync(join(project, "package.json"), '{ "private": true, "type": "module" }');
  await npm(["install", inject("tarball"), "typescript@6.0.3", "@types/node@20"], project);
  return () => rmSync(project, { recursive: true, force: true });
}, INSTALL_DEADLINE_MS);

const command = (): string => join(project, "node_modules", ".bin", "asyncnbd");

function write(file: string, text: string): string {
  const path = join(project, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

const disk = `
  import { definePlugin } from "asyncnbd";
  export default definePlugin({
    name: "disk",
    config: { byte: { type: "integer", default: 1 } },
    getSize: () => 65536,
    pread(_handle, buf) { buf.fill(this.config.byte); },
  });`;

test("its command serves C plugins, shipped plugins and filters", async () => {
  const io = "qemu-io -r -f raw -c 'read -P 0 0 1M' $uri";
  for (const plugin of [["memory"], ["ram"], ["--filter=cow", "memory"]])
    expect(await runOk([command(), ...plugin, "1M", "--run", io], { cwd: project })).toMatch(
      /^read /,
    );
  const help = await runOk([command(), "--help", "http"], { cwd: project });
  expect(help).toContain("range requests");
});

test("its command serves a plugin of a project that imports it", async () => {
  write("disk.ts", disk);
  const io = "qemu-io -r -f raw -c 'read -P 7 0 64k' $uri";
  await runOk([command(), "./disk.ts", "byte=7", "--run", io], { cwd: project });
});

test("an installed plugin package is found by its short name", async () => {
  write(
    "node_modules/asyncnbd-plugin-mine/package.json",
    '{ "type": "module", "main": "index.js" }',
  );
  write("node_modules/asyncnbd-plugin-mine/index.js", disk);
  const io = "qemu-io -r -f raw -c 'read -P 1 0 64k' $uri";
  await runOk([command(), "mine", "--run", io], { cwd: project });
});

test("a program embeds it with types", async () => {
  const program = (more: string): string => `
    import { AsyncnbdError, definePlugin, serve, version, type NbdServer } from "asyncnbd";
    import { log, type Middleware } from "asyncnbd/middleware";
    import disk from "./disk.js";
    const middleware: Middleware = log({ file: "lines" });
    const server: NbdServer = await serve({ plugin: middleware(disk), config: { byte: 3 } });
    console.log(server.uri !== undefined, version, AsyncnbdError.name);
    await server.close({ graceMs: 100 });
    export const other = definePlugin({ name: "other", getSize: () => 1, pread(h, buf) { ${more} } });`;
  const compile = (): Promise<{ status: number; stdout: string }> =>
    run([join(project, "node_modules", ".bin", "tsc"), "-p", project], { cwd: project });
  const options = {
    module: "nodenext",
    target: "es2023",
    strict: true,
    types: ["node"],
    rootDir: "src",
    outDir: "out",
  };
  write("tsconfig.json", JSON.stringify({ compilerOptions: options, include: ["src"] }));
  write("src/disk.ts", disk);
  write("src/program.ts", program("buf.fill(this.nosuch);"));
  expect(await compile()).toMatchObject({ stdout: expect.stringContaining("nosuch") });
  write("src/program.ts", program("buf.fill(0);"));
  expect(await compile()).toMatchObject({ status: 0, stdout: "" });
  const stdout = await runOk([process.execPath, join(project, "out", "program.js")], {
    cwd: project,
  });
  expect(stdout).toMatch(/^true \d+\.\d+\.\d+ AsyncnbdError$/m);
});

test("tests can mount plugins, and learn what a model check needs", async () => {
  const path = write(
    "mounted.mjs",
    `import { checkModel, mount } from "asyncnbd/testing";
     const disk = await mount("memory", { config: { size: "64k" } });
     console.log((await disk.read(0, 1))[0]);
     await disk.close();
     await checkModel("memory").catch((error) => console.log(error.code, error.message));`,
  );
  expect(await runOk([process.execPath, path], { cwd: project })).toBe(
    "0\nDEPENDENCY_MISSING checkModel needs the package fast-check: npm install --save-dev fast-check\n",
  );
});

test("C plugins can be compiled against its header", async () => {
  const include = await runOk([process.execPath, "-p", 'require("asyncnbd").includeDirectory'], {
    cwd: project,
  });
  const source = write("empty.c", "#include <nbdkit-plugin.h>\nint main(void) { return 0; }\n");
  await runOk(["cc", `-I${include.trim()}`, "-DTHREAD_MODEL=0", "-fsyntax-only", source]);
});

test("two copies of it work in one program", async () => {
  write("node_modules/copy/placeholder", "");
  await runOk(["rm", "-rf", join(project, "node_modules", "copy")]);
  await runOk([
    "cp",
    "-r",
    join(project, "node_modules", "asyncnbd"),
    join(project, "node_modules", "copy"),
  ]);
  const path = write(
    "two.mjs",
    `import { execFile } from "node:child_process";
     import { promisify } from "node:util";
     import * as one from "asyncnbd";
     import * as other from "./node_modules/copy/dist/index.js";
     if (one.serve === other.serve) throw new Error("these are one copy");
     const sh = async (uri, byte) => promisify(execFile)("qemu-io", ["-r", "-f", "raw", "-c", \`read -P \${byte} 0 64k\`, uri]);
     const disk = (byte) => ({ name: "d" + byte, getSize: () => 65536, pread: (h, buf) => { buf.fill(byte); } });
     const servers = await Promise.all([
       one.serve({ plugin: disk(1) }),
       other.serve({ plugin: disk(2) }),
       one.serve({ plugin: "memory", config: { size: "64k" } }),
       other.serve({ plugin: "memory", config: { size: "64k" }, filters: ["cow"] }),
     ]);
     await Promise.all([1, 2, 0, 0].map((byte, i) => sh(servers[i].uri, byte)));
     await servers[0].close();
     await sh(servers[1].uri, 2);
     await Promise.all(servers.map((server) => server.close()));
     console.log("done");`,
  );
  expect(await runOk([process.execPath, path], { cwd: project })).toBe("done\n");
});
