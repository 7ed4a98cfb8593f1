// A plugin's life, led by whoever serves it: which callbacks, in which order, after which failures.

import { expect, test } from "vitest";
import { Chain } from "../../../src/exports/chain.js";
import { Life } from "../../../src/plugins/life.js";
import type { Plugin } from "../../../src/plugins/script/definition.js";
import { ScriptPlugin } from "../../../src/plugins/script/script-plugin.js";

/** The life of a plugin that notes its callbacks, of which `failing` throws. */
async function begin(failing = "") {
  const calls: string[] = [];
  const note = (name: string) => () => {
    calls.push(name);
    if (name === failing) throw new Error(`${name} failed`);
  };
  const definition: Plugin = {
    name: "noting",
    config: { size: "size" },
    load: note("load"),
    configComplete: note("configComplete"),
    getReady: note("getReady"),
    afterFork: note("afterFork"),
    cleanup: note("cleanup"),
    unload: note("unload"),
    getSize: () => 0,
    pread: () => {},
  };
  const chain = await Chain.of(new ScriptPlugin(definition, "here"), []);
  return { life: new Life(chain), calls };
}

const PARAMETERS = [["size", "1M"]] as const;

test("goes through all steps in nbdkit's order, and ends once", async () => {
  const { life, calls } = await begin();
  await life.load();
  await life.getReady(PARAMETERS);
  await life.afterFork();
  await Promise.all([life.end(), life.end()]);
  const start = ["load", "configComplete", "getReady", "afterFork"];
  expect(calls).toEqual([...start, "cleanup", "unload"]);
});

test("without a successful afterFork there is no cleanup", async () => {
  const unstarted = await begin();
  await unstarted.life.load();
  await unstarted.life.getReady(PARAMETERS);
  await unstarted.life.end();
  expect(unstarted.calls).toEqual(["load", "configComplete", "getReady", "unload"]);

  const { life, calls } = await begin("afterFork");
  await life.load();
  await life.getReady(PARAMETERS);
  await expect(life.afterFork()).rejects.toThrow("afterFork failed");
  await life.end();
  expect(calls).toEqual(["load", "configComplete", "getReady", "afterFork", "unload"]);
});

test("a wrong parameter ends the start before configComplete", async () => {
  const { life, calls } = await begin();
  await life.load();
  await expect(life.getReady([["sise", "1M"]])).rejects.toThrow("size");
  await life.end();
  expect(calls).toEqual(["load", "unload"]);
});

test("a failed cleanup does not stop unloading", async () => {
  const { life, calls } = await begin("cleanup");
  await life.load();
  await life.getReady(PARAMETERS);
  await life.afterFork();
  await expect(life.end()).rejects.toThrow("cleanup failed");
  expect(calls.slice(-2)).toEqual(["cleanup", "unload"]);
});

test("no step can be skipped", async () => {
  const { life, calls } = await begin();
  await expect(life.getReady(PARAMETERS)).rejects.toThrow("opened");
  await expect(life.afterFork()).rejects.toThrow("opened");
  expect(calls).toEqual([]);
});
