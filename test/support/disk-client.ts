// A client whose requests have to succeed, for tests of plugins that have real disks.

import { expect } from "vitest";
import { run } from "./command.js";
import { CMD } from "./protocol.js";
import { type RunningServer, temporaryDirectory } from "./server.js";
import { StrictClient } from "./strict-client.js";

export const connectTo = (server: RunningServer, exportName = ""): Promise<StrictClient> =>
  StrictClient.connect(server.socket, {
    style: "structured",
    contexts: ["base:allocation"],
    exportName,
  });

export async function write(
  client: StrictClient,
  offset: number,
  payload: Uint8Array,
): Promise<void> {
  const reply = await client.request({ type: CMD.WRITE, offset: BigInt(offset), payload });
  expect(reply.error).toBe(0);
}

export async function read(client: StrictClient, offset: number, length: number): Promise<Buffer> {
  const { error, data } = await client.read(BigInt(offset), length);
  expect(error).toBe(0);
  return data;
}

/** By fio, which writes and reads at random at depth 64: `size` of the disk, `ioSize` in all. */
export async function verifyByFio(
  server: RunningServer,
  size: string,
  ioSize: string,
): Promise<void> {
  const job = ["--name=verify", "--ioengine=nbd", `--uri=${server.uri}`, "--rw=randrw"];
  const load = ["--bs=4k", "--iodepth=64", `--size=${size}`, `--io_size=${ioSize}`];
  const fio = await run(["fio", ...job, ...load, "--verify=crc32c", "--verify_fatal=1"], {
    cwd: temporaryDirectory(),
  });
  expect(fio).toMatchObject({ status: 0, stderr: "" });
}
