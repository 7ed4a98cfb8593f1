// asyncnbd/testing: a mounted plugin, faults planted in one that are found, and faults on demand.

import { copyFileSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { definePlugin } from "../../src/index.js";
import {
  type CheckOptions,
  checkModel,
  faults,
  ModelError,
  mount,
  type Tested,
} from "../../src/testing/index.js";
import { runOk } from "../support/command.js";
import { type PlantedFault, plantedDisk } from "../support/planted-disk.js";
import { temporaryDirectory } from "../support/server.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const ram = join(root, "examples", "ram.ts");
const SIZE_BYTES = 64 * 1024 + 513; // no whole number of blocks
const LONG_MS = 180_000; // a case is made small by many runs

async function errorOf(tested: Tested, options: CheckOptions): Promise<ModelError> {
  const error = await checkModel(tested, options).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(ModelError);
  return error;
}

describe("a fault planted in a plugin is found, in at most five requests:", () => {
  test.each<PlantedFault>([
    "a lost write",
    "a wrong offset at a block's edge",
    "a flush that lies",
    "a late write",
    "FUA that lies",
    "a zero that spares the last byte",
    "a trim that takes the byte after",
    "extents that call data zero",
    "a disk of each client's own",
    "writes at once that forget each other",
  ])("%s", { timeout: LONG_MS }, async (fault) => {
    for (const seed of [1, 2]) {
      const error = await errorOf(plantedDisk(SIZE_BYTES, fault), { seed });
      expect(error.requests.length, error.message).toBeLessThanOrEqual(5);
    }
  });

  test("a failing read, which it names", { timeout: LONG_MS }, async () => {
    const fault = "a read that fails on an odd offset";
    const error = await errorOf(plantedDisk(SIZE_BYTES, fault), { seed: 1 });
    expect(error.requests.length, error.message).toBe(1);
    expect(error.fault).toMatch(/^request 1, read \d+ bytes? at \d+: it fails with EIO/);
  });

  test("a request that is never answered", { timeout: LONG_MS }, async () => {
    const fault = "a request without an answer";
    const options = { seed: 1, requests: 3, answerWithinMs: 100 };
    const error = await errorOf(plantedDisk(SIZE_BYTES, fault), options);
    expect(error.fault).toContain("there is no answer after 100 ms");
  });
});

test("a fault is reported with its byte, its request and how to repeat it", async () => {
  const tested = plantedDisk(SIZE_BYTES, "a wrong offset at a block's edge");
  const error = await errorOf(tested, { seed: 3 });
  expect(error.message).toContain(`{ seed: 3, path: "${error.path}" }`);
  expect(error.fault).toMatch(/byte \d+ is 0x.., expected 0x.. \(.*request \d+\)/);
  expect(error.requests.join()).toMatch(/write \d+ bytes at \d+/);
  const again = await errorOf(tested, { seed: error.seed, path: error.path });
  expect([again.fault, again.requests]).toEqual([error.fault, error.requests]);
});

describe("a right plugin passes:", () => {
  const cases = 15;

  test("one with a cache and a store", async () => {
    await checkModel(plantedDisk(SIZE_BYTES), { seed: 1, cases });
  });

  test("one in TypeScript, by its path", async () => {
    await checkModel(ram, { config: { size: "1M" }, seed: 2, cases });
  });

  test("one in C, by its name, with a disk larger than the tested part", async () => {
    await checkModel("memory", { config: { size: "5G" }, seed: 3, cases });
  });

  test("one whose file is copied for each restart", async () => {
    const folder = temporaryDirectory();
    let files = 0;
    const next = (): string => join(folder, `${files++}.img`);
    const tested: Tested = () => {
      let file = next();
      writeFileSync(file, "");
      truncateSync(file, SIZE_BYTES);
      return {
        ...{ plugin: "file", config: { file } },
        restart: () => {
          const from = file;
          file = next();
          copyFileSync(from, file);
          return { plugin: "file", config: { file } };
        },
        end: () => rmSync(file),
      };
    };
    await checkModel(tested, { seed: 4, cases });
  });

  test("one that takes whole blocks", async () => {
    const disk = Buffer.alloc(SIZE_BYTES);
    const plugin = definePlugin({
      name: "blocks",
      blockSize: () => ({ minimum: 512, preferred: 4096, maximum: 65536 }),
      getSize: () => 64 * 1024,
      pread: (_handle, buf, offset) => void disk.copy(buf, 0, offset),
      pwrite: (_handle, buf, offset) => void buf.copy(disk, offset),
    });
    await checkModel(plugin, { seed: 5, cases });
  });

  test("one that is allowed to fail, and does", async () => {
    const broken = faults();
    broken.fail({ on: "write", error: "ENOSPC", at: 4096 });
    const options = { config: { size: "64k" }, filters: [broken], seed: 6, cases };
    await checkModel("memory", { ...options, mayFail: ["ENOSPC"] });
    expect(broken.count).toBeGreaterThan(0);
    expect((await errorOf("memory", options)).fault).toContain("ENOSPC");
  });
});

test("a plugin that cannot be served causes serve()'s error", async () => {
  await expect(checkModel("memory")).rejects.toMatchObject({ code: "PLUGIN_FAILED" });
  await expect(mount("memory")).rejects.toMatchObject({ code: "PLUGIN_FAILED" });
});

describe("a mounted plugin", () => {
  test("has a client and a URI, and ends when it is closed", async () => {
    const disk = await mount(ram, { config: { size: "64k" } });
    await disk.write(512, Buffer.from("text"));
    expect((await disk.read(512, 4)).toString()).toBe("text");
    await runOk(["qemu-io", "-f", "raw", "-c", "write -P 7 0 512", disk.uri]);
    expect((await disk.read(0, 1))[0]).toBe(7);
    await disk.close();
    await disk.close();
    await expect(disk.read(0, 1)).rejects.toMatchObject({ code: "ECLOSED" });
    await expect(disk.server.connect(0)).rejects.toMatchObject({ code: "SERVER_CLOSED" });
  });

  test("is closed by `await using`", async () => {
    let server: { readonly connect: (fd: number) => Promise<void> };
    {
      await using disk = await mount("memory", { config: { size: "64k" } });
      server = disk.server;
      expect(disk.size).toBe(65536);
    }
    await expect(server.connect(0)).rejects.toMatchObject({ code: "SERVER_CLOSED" });
  });
});

describe("faults on demand", () => {
  const SIZE = { size: "64k" };

  test("make requests of a kind fail a given number of times", async () => {
    const broken = faults();
    await using disk = await mount("memory", { config: SIZE, filters: [broken] });
    broken.fail({ on: "write", error: "ENOSPC", times: 1 });
    await disk.read(0, 512);
    await expect(disk.write(0, Buffer.alloc(512, 1))).rejects.toMatchObject({ code: "ENOSPC" });
    expect((await disk.read(0, 1))[0]).toBe(0);
    await disk.write(0, Buffer.alloc(512, 1));
    expect([(await disk.read(0, 1))[0], broken.count]).toEqual([1, 1]);
  });

  test("tear a write: only its beginning is stored", async () => {
    const broken = faults();
    await using disk = await mount("memory", { config: SIZE, filters: [broken] });
    broken.tear({ on: "write", bytes: 3 });
    await expect(disk.write(0, Buffer.from("abcdef"))).rejects.toMatchObject({ code: "EIO" });
    expect((await disk.read(0, 6)).toString()).toBe("abc\0\0\0");
    broken.clear();
    await disk.write(0, Buffer.from("abcdef"));
    expect((await disk.read(0, 6)).toString()).toBe("abcdef");
  });

  test("delay a request while others go on", async () => {
    const broken = faults();
    await using disk = await mount(
      broken(
        definePlugin({
          name: "sevens",
          getSize: () => 65536,
          pread: (_handle, buf) => void buf.fill(7),
        }),
      ),
    );
    let goOn = (): void => {};
    const until = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    broken.delay({ on: "read", at: 0, until });
    const events: string[] = [];
    const waiting = disk.read(0, 512).then(() => events.push("waited"));
    await disk.read(512, 512);
    events.push("passed");
    goOn();
    await waiting;
    expect(events).toEqual(["passed", "waited"]);
  });
});

describe("under", () => {
  /** A project whose tests use what is built. */
  function project(): string {
    const folder = temporaryDirectory();
    const modules = join(folder, "node_modules");
    mkdirSync(modules);
    symlinkSync(root, join(modules, "asyncnbd"));
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    return folder;
  }
  const uses = (runner: string): string => `
    import { strict as assert } from "node:assert";
    import { test } from "${runner}";
    import { checkModel, faults, ModelError, mount } from "asyncnbd/testing";
    test("a disk", async () => {
      const broken = faults();
      const disk = await mount("memory", { config: { size: "64k" }, filters: [broken] });
      await disk.write(0, Buffer.from("abc"));
      assert.equal((await disk.read(0, 3)).toString(), "abc");
      broken.fail({ on: "write" });
      await assert.rejects(disk.write(0, Buffer.alloc(1)), { code: "EIO" });
      await disk.close();
      await checkModel("memory", { config: { size: "64k" }, cases: 5 });
      const lost = { name: "lost", getSize: () => 512, pread: (h, buf) => buf.fill(0), pwrite() {} };
      await assert.rejects(checkModel(lost, { cases: 20 }), ModelError);
    });`;

  test.each(["forks", "threads", "vmThreads"])(
    "vitest's %s",
    { timeout: LONG_MS },
    async (pool) => {
      const folder = project();
      writeFileSync(join(folder, "disk.test.js"), uses("vitest"));
      const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
      symlinkSync(join(root, "node_modules", "vitest"), join(folder, "node_modules", "vitest"));
      await runOk([process.execPath, vitest, "run", "--pool", pool, "--testTimeout=60000"], {
        cwd: folder,
        deadlineMs: LONG_MS,
      });
    },
  );

  test("node:test", { timeout: LONG_MS }, async () => {
    const folder = project();
    writeFileSync(join(folder, "disk.test.js"), uses("node:test"));
    await runOk([process.execPath, "--test", "disk.test.js"], { cwd: folder, deadlineMs: LONG_MS });
  });
});
