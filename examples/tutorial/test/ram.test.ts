// The disk in memory behind a real server, used by a real client.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkModel, mount } from "asyncnbd/testing";
import ram from "../src/ram.js";

test("what is written is read", async () => {
  await using disk = await mount(ram, { config: { size: "1M" } });
  await disk.write(512, Buffer.from("hello"));
  assert.equal((await disk.read(512, 5)).toString(), "hello");
});

test("random requests find a disk", async () => {
  await checkModel(ram, { config: { size: "64k" }, seed: 1 });
});
