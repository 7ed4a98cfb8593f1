// The shipped rbd plugin with a Ceph cluster that does not answer: whoever waits for it is told so
// after the stated time, and a program that serves an image goes on meanwhile.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { startCeph } from "../support/ceph.js";
import { runOk } from "../support/command.js";
import { program } from "../support/program.js";
import { RawClient } from "../support/raw-client.js";
import { refusalOf } from "../support/refusal.js";
import { LEAKS_AT_EXIT, type RunningServer, startServer } from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const ceph = startCeph({ store: "bluestore" });

let images = 0;

async function makeImage(): Promise<string> {
  const name = `disk${++images}`;
  await ceph.run("rbd", "create", "--size=8M", `rbd/${name}`);
  return name;
}

const serve = (...words: readonly string[]): Promise<RunningServer> =>
  startServer(["rbd", ...words, `conf=${ceph.conf}`], { env: LEAKS_AT_EXIT });

async function whileStopped<T>(daemons: readonly string[], work: () => Promise<T>): Promise<T> {
  for (const daemon of daemons) await ceph.stop(daemon);
  try {
    return await work();
  } finally {
    for (const daemon of daemons) ceph.signal(daemon, "SIGCONT");
  }
}

/** With a slow machine's slack. */
async function expectWithin(seconds: number, work: () => Promise<unknown>): Promise<void> {
  const begin = Date.now();
  await work();
  expect(Date.now() - begin).toBeLessThan((seconds + 5) * 1000);
}

test.each<[what: string, dead: string[], words: (image: string) => string[], sentence: string]>([
  [
    "an image, without its OSD",
    ["osd.0"],
    (image) => [image, "connect-timeout=2"],
    "cannot open the image rbd/disk1: the cluster has not answered within connect-timeout=2",
  ],
  [
    "an image, without its OSD, within timeout=",
    ["osd.0"],
    (image) => [image, "timeout=1"],
    "cannot open the image rbd/disk2: the cluster has not answered within timeout=1",
  ],
  [
    "a pool, without its OSD",
    ["osd.0"],
    () => ["pool=rbd", "connect-timeout=2"],
    "cannot list the images of the pool rbd: the cluster has not answered within connect-timeout=2",
  ],
  [
    "an image, without a monitor",
    ["mon.a"],
    (image) => [image, "connect-timeout=2"],
    "no monitor of the Ceph cluster answers within 2 s: check mon_host in the configuration, and the network; connect-timeout= changes the time",
  ],
])("a server that is to serve %s says so in a sentence and ends", async (_, dead, words, said) => {
  const image = await makeImage();
  await whileStopped(dead, () =>
    expectWithin(2, async () => {
      const refusal = await refusalOf(["rbd", ...words(image), `conf=${ceph.conf}`], {
        env: { ...process.env, ...LEAKS_AT_EXIT },
      });
      expect(refusal).toBe(`asyncnbd: error: ${said}\n`);
    }),
  );
});

test("clients that list a pool's images are told after timeout= that it cannot be done", async () => {
  const image = await makeImage();
  const server = await serve("pool=rbd", "timeout=1");
  const list = (): Promise<string> => runOk(["nbdinfo", "--list", server.uri]);
  expect(await list()).toContain(`export="${image}"`);
  await whileStopped(["osd.0"], () =>
    expectWithin(2, async () => {
      const attempts = await Promise.allSettled(Array.from({ length: 4 }, list));
      expect(attempts.map(({ status }) => status)).toEqual(attempts.map(() => "rejected"));
      expect(server.stderr()).toContain(
        "cannot list the images of the pool rbd: the cluster has not answered within timeout=1",
      );
    }),
  );
  expect(await list()).toContain(`export="${image}"`);
  await server.stop();
});

test("a client is refused after timeout= if the size of an open image cannot be had", async () => {
  const image = await makeImage();
  const server = await serve(image, "timeout=1");
  const connect = (): Promise<StrictClient> =>
    StrictClient.connect(server.socket, { style: "structured" });
  const first = await connect();
  await ceph.run("rbd", "resize", "--no-progress", "--size=12M", `rbd/${image}`);
  await whileStopped(["osd.0"], () =>
    expectWithin(2, async () => {
      await expect(connect()).rejects.toThrow();
      await expect(connect()).rejects.toThrow();
    }),
  );
  expect(server.stderr()).toContain(`cannot get the size of the image rbd/${image}`);
  expect((await connect()).sizeBytes).toBe(12n << 20n);
  await first.disconnect();
  await server.stop();
});

test("a client that leaves does not keep its thread for longer than timeout=", async () => {
  const server = await serve(await makeImage(), "timeout=1");
  const client = await RawClient.open(server.socket);
  await whileStopped(["osd.0"], async () => {
    client.socket.destroy();
    await sleep(3000);
    expect(server.stderr()).toContain("cannot close the image");
  });
  await server.stop();
});

/** What a program does while its clock ticks: it tells of each pause of JavaScript's. */
const WATCH = `
  let last = performance.now(), longestMs = 0;
  const ticks = setInterval(() => {
    longestMs = Math.max(longestMs, performance.now() - last);
    last = performance.now();
  }, 10);
  const watched = async (work) => {
    longestMs = 0;
    last = performance.now();
    const result = await work();
    assert.ok(longestMs < 700, "JavaScript was blocked for " + longestMs + " ms");
    return result;
  };
  const signal = (daemon, name) =>
    sh("kill -" + name + " $(cat $CEPH_RUN/" + daemon + ".pid)");
`;

const runProgram = (image: string, body: string): Promise<string> =>
  program(`
    process.env.CEPH_RUN = env.CEPH_RUN = ${JSON.stringify(`${ceph.directory}/run`)};
    const disk = (config) => ({ plugin: "rbd", config: {
      rbd: "rbd/${image}", conf: ${JSON.stringify(ceph.conf)}, ...config } });
    ${WATCH}
    try { ${body} } finally { await signal("osd.0", "CONT"); clearInterval(ticks); }`);

test.each<[what: string, config: string]>([
  ["that is locked", "{ exclusive: true }"],
  ["that is locked, with timeout=", "{ exclusive: true, timeout: 1 }"],
])("close() of a program's server returns in the grace with an image %s", async (_, config) => {
  await runProgram(
    await makeImage(),
    `const server = await serve(disk(${config}));
     await signal("osd.0", "STOP");
     const begin = performance.now();
     assert.equal(await watched(() => server.close({ graceMs: 2000 })), false);
     assert.ok(performance.now() - begin < 4000);`,
  );
});

test("close() of a program's server returns in the grace while a client's image is being opened", async () => {
  await runProgram(
    await makeImage(),
    `const server = await serve(disk({ timeout: 1 }));
     await signal("osd.0", "STOP");
     await watched(() => assert.rejects(sh("nbdinfo '" + server.uri + "'")));
     assert.equal(await watched(() => server.close({ graceMs: 2000 })), false);`,
  );
});

test("a program whose server cannot start for want of an OSD goes on, and can serve later", async () => {
  await runProgram(
    await makeImage(),
    `await signal("osd.0", "STOP");
     await assert.rejects(serve(disk({ "connect-timeout": 1 })),
       { message: /has not answered within connect-timeout=1/ });
     await signal("osd.0", "CONT");
     const server = await serve(disk({}));
     assert.match(await sh("nbdinfo --size '" + server.uri + "'"), /^8388608/);
     assert.equal(await watched(() => server.close()), true);`,
  );
});
