// asyncnbd/testing: a mounted plugin, faults planted in one that are found, and faults on demand.

import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { definePlugin, serve } from "../../src/index.js";
import {
  type CheckOptions,
  checkModel,
  faults,
  ModelError,
  mount,
  type Tested,
} from "../../src/testing/index.js";
import { runOk } from "../support/command.js";
import { MIB } from "../support/fixtures.js";
import { type PlantedFault, plantedDisk } from "../support/planted-disk.js";
import { temporaryDirectory } from "../support/server.js";

const ram = fileURLToPath(new URL("../../examples/ram.ts", import.meta.url));
const SIZE_BYTES = 64 * 1024 + 513; // no whole number of blocks

async function errorOf(tested: Tested, options: CheckOptions): Promise<ModelError> {
  const error = await checkModel(tested, options).catch((thrown) => thrown);
  expect(error).toBeInstanceOf(ModelError);
  return error;
}

describe("a fault planted in a plugin is found, in few requests:", () => {
  test.each<PlantedFault>([
    "a wrong offset at a block's edge",
    "a flush that lies",
    "a late write",
    "FUA that lies",
    "a zero that spares the last byte",
    "a trim that takes the byte after",
    "extents that call data zero",
    "a disk of each client's own",
    "writes at once that forget each other",
    "a lost write",
  ])("%s", async (fault) => {
    for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
      const error = await errorOf(plantedDisk(SIZE_BYTES, fault), { seed });
      if(process.env.SHOW) console.log(fault, error.message);
      expect(error.requests.length, error.message).toBeLessThanOrEqual(5);
    }
  });
});
