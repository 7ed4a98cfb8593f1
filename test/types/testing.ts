// Compiled by the type check, never run: right uses of asyncnbd/testing compile, wrong ones do not.

import { definePlugin } from "../../src/index.js";
import { checkModel, faults, ModelError, type Mounted, mount } from "../../src/testing/index.js";

const plugin = definePlugin({
  name: "zero",
  getSize: () => 512,
  pread: (_h, buf) => void buf.fill(0),
});

async function use(): Promise<void> {
  await using disk: Mounted = await mount(plugin, { config: { size: "1M" }, readonly: true });
  const data: Buffer = await disk.read(0, 512);
  const uri: string = disk.uri;
  void [data, uri, disk.server.getStats()];
  // @ts-expect-error parameters are text, numbers and booleans
  await mount(plugin, { config: { size: {} } });
  // @ts-expect-error where it listens is not for tests to choose
  await mount(plugin, { listen: "nothing" });
  // @ts-expect-error a misspelt option
  await mount(plugin, { confg: { size: "1M" } });
  // @ts-expect-error a misspelt option of the client
  await mount(plugin, { client: { conections: 2 } });
  await mount("memory", { client: { connections: 2 }, throwsServerErrors: true });
  await checkModel(plugin, { seed: 1, requests: 10, connections: 3, blockBytes: [1024] });
  // @ts-expect-error a misspelt option
  await checkModel(plugin, { sed: 1 });
  await checkModel(() => plugin);
  await checkModel(async () => ({ plugin, config: { size: 1 }, restart: () => plugin }));
  // @ts-expect-error a restart returns a plugin
  await checkModel(() => ({ plugin, restart: () => {} }));
  const broken = faults();
  broken.fail({ on: ["read", "write"], error: "ENOSPC", times: 1 });
  broken.delay({ until: 10 });
  // @ts-expect-error a misspelt option
  broken.fail({ on: "read", eror: "EIO" });
  // @ts-expect-error no such request
  broken.fail({ on: "pread" });
  // @ts-expect-error reads are not torn
  broken.tear({ on: "read" });
  await mount(broken(plugin), { filters: [broken] });
}

function told(error: unknown): string | undefined {
  return error instanceof ModelError ? error.requests[0] : undefined;
}
void [use, told];
