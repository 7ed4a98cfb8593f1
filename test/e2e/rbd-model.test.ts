// The shipped rbd plugin against a disk in memory, by random requests of several clients: what is
// striped, what is a clone, and what librbd caches.

import { expect, test } from "vitest";
import { checkModel } from "../../src/testing/index.js";
import { startCeph } from "../support/ceph.js";
import { sanitizer } from "../support/server.js";

const ceph = startCeph();

const CASES = sanitizer === undefined ? 12 : 4;

/** A new image of 2 MiB for each case, whose objects are small: requests go over their edges. */
const makers: Readonly<Record<string, (name: string) => Promise<unknown>>> = {
  "a plain image": (name) =>
    ceph.run("rbd", "create", "--size=2M", "--object-size=64K", `rbd/${name}`),
  "a striped image": (name) =>
    ceph.run(
      ...["rbd", "create", "--size=2M", "--object-size=64K"],
      ...["--stripe-unit=16K", "--stripe-count=4", `rbd/${name}`],
    ),
  "a clone": async (name) => {
    const parent = `rbd/parent-of-${name}`;
    await ceph.run("rbd", "create", "--size=2M", "--object-size=64K", parent);
    const written = ["--io-type=write", "--io-size=64K", "--io-total=1M", "--io-pattern=rand"];
    await ceph.run("rbd", "bench", ...written, parent);
    await ceph.run("rbd", "snap", "create", "--no-progress", `${parent}@base`);
    const clone = ["clone", "--rbd-default-clone-format=2", "--object-size=64K"];
    await ceph.run("rbd", ...clone, `${parent}@base`, `rbd/${name}`);
  },
};

let images = 0;

test.each(
  Object.keys(makers).flatMap((kind) => [
    [kind, "false"],
    [kind, "true"],
  ]) as [string, string][],
)("%s is a disk, with cache=%s", async (kind, cache) => {
  const name = `model${++images}`;
  await makers[kind]?.(name);
  // One image for all cases: each begins with what is there.
  await expect(
    checkModel("rbd", {
      config: { rbd: `rbd/${name}`, conf: ceph.conf, cache },
      seed: images,
      cases: CASES,
      requests: 30,
      connections: 3,
      blockBytes: [16 << 10, 64 << 10],
      answerWithinMs: 30_000,
    }),
  ).resolves.toBeUndefined();
});
