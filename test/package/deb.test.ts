// The package for Debian, installed in a folder as dpkg does it, served from, and removed.

import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runOk } from "../support/command.js";
import { temporaryDirectory } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const DEADLINE_MS = 120_000;

function emptySystem(): string {
  const directory = temporaryDirectory();
  const database = join(directory, "var", "lib", "dpkg");
  for (const folder of ["info", "updates"]) mkdirSync(join(database, folder), { recursive: true });
  for (const file of ["status", "available"]) writeFileSync(join(database, file), "");
  return directory;
}

const filesOf = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: "utf8" }).filter(
    (file) => !/^(var|usr|lib|usr\/(lib|share|bin))(\/dpkg.*|\/lib.*|)$/.test(file),
  );

test(
  "installs, serves all kinds of plugins, and removes without leftovers",
  async () => {
    const env = { ...process.env, DEBEMAIL: "packager@example.org" };
    const output = await runOk([join(root, "scripts", "package-deb"), temporaryDirectory()], {
      env,
      deadlineMs: DEADLINE_MS,
    });
    const system = emptySystem();
    const dpkg = [
      "env",
      `PATH=${process.env.PATH}:/usr/sbin:/sbin`, // which users who are not root may not have
      "dpkg",
      `--root=${system}`,
      "--force-not-root",
      "--force-depends",
      "--no-triggers",
    ];
    await runOk([...dpkg, "--install", output.trim()]);

    const path = `${join(system, "usr", "bin")}:${dirname(process.execPath)}:${process.env.PATH}`;
    const installed = { env: { ...process.env, PATH: path, XDG_CACHE_HOME: temporaryDirectory() } };
    for (const plugin of [["memory"], ["ram"], ["--filter=cow", "delay-memory"]]) {
      const line = ["asyncnbd", ...plugin, "1M", "--run", "nbdinfo --size $uri"];
      expect(await runOk(line, installed)).toBe(`${2 ** 20}\n`);
    }
    const pages = join(system, "usr", "share", "man");
    expect(await runOk(["man", "-M", pages, "-w", "asyncnbd-file-plugin"])).toMatch(/\.1\.gz\n$/);
    expect(existsSync(join(system, "lib/systemd/system/asyncnbd@.service"))).toBe(true);

    await runOk([...dpkg, "--purge", "asyncnbd"]);
    expect(filesOf(system)).toEqual([]);
  },
  DEADLINE_MS,
);
