// Another front end than NBD: exports served on memory that another process shares, by the same
// runtime, plugins and layers, without anything of native/nbd. RING_SEED is the first of the seeds.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Finished, run, runOk } from "../support/command.js";
import {
  debianFilter,
  temporaryDirectory,
  testPlugin,
  variantDirectory,
} from "../support/server.js";

const SEED = Number(process.env.RING_SEED ?? "1");

interface RunningRing {
  /** Runs a client to its end; it has to succeed. Returns what it prints. */
  client(...words: readonly (string | number)[]): Promise<string>;
  /** So many that are connected. */
  idle(count: number): Promise<{ readonly ended: Promise<number> }>;
  /** One that is killed. */
  killed(...words: readonly (string | number)[]): Promise<void>;
  /** Ends it, which has to succeed. Returns what it has said. */
  stop(): Promise<string>;
}

const program = (name: string): string => join(variantDirectory, name);

/** `words`: filters, the plugin and its parameters. */
async function startRing(
  words: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<RunningRing> {
  const socket = join(temporaryDirectory(), "ring");
  const child = spawn(program("ring_server"), [socket, ...words], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const ended = new Promise<number>((resolve) => {
    child.once("close", (code) => resolve(code ?? -1));
  });
  const ready = new Promise((resolve) => child.stdout.once("data", resolve));
  await Promise.race([ready, ended.then((code) => expect.fail(`status ${code}: ${said}`))]);
  const clientLine = (given: readonly (string | number)[]) => {
    const [what, ...rest] = given.map(String);
    return [program("ring_client"), socket, what as string, ...rest];
  };
  return {
    client: (...given) => runOk(clientLine(given)),
    killed: async (...given) => {
      const finished: Finished = await run(clientLine(given));
      expect(finished.status, finished.stderr).toBe(128 + 9);
    },
    idle: async (count) => {
      const line = clientLine(["idle", count]);
      const clients = spawn(line[0] as string, line.slice(1), {
        stdio: ["ignore", "pipe", "inherit"],
      });
      onTestFinished(() => void clients.kill("SIGKILL"));
      await new Promise((resolve) => clients.stdout.once("data", resolve));
      return {
        ended: new Promise((resolve) => clients.once("close", (code) => resolve(code ?? -1))),
      };
    },
    stop: async () => {
      child.kill("SIGTERM");
      expect(await ended, said).toBe(0);
      return said;
    },
  };
}

const MEMORY = [testPlugin("memory"), "size=4M"];
const probe = (model: number) => [testPlugin("probe"), `model=${model}`];

/** Chains of each thread model, and of each way in which a layer answers. */
const CHAINS: Readonly<Record<string, readonly string[]>> = {
  "a plugin": MEMORY,
  "a plugin whose requests come one by one": probe(2),
  "a plugin with one call at a time": probe(1),
  "a plugin that answers later": [testPlugin("torture"), "size=4M"],
  "a plugin with one thread for all": ["--threads=1", ...MEMORY],
  "filters of nbdkit, and one of ours between them": [
    `--filter=${debianFilter("fua")}`,
    "--filter=delay,flushMs=1",
    `--filter=${debianFilter("cow")}`,
    ...MEMORY,
    "fuamode=emulate",
  ],
  "copies on writing": ["--filter=cow", ...MEMORY],
  "a cache in front of what answers later": [
    "--filter=cache,mode=writeback,blockBytes=4096",
    testPlugin("torture"),
    "size=4M",
  ],
  "requests that wait for their time": ["--filter=delay,readMs=1,writeMs=1", ...MEMORY],
  "blocks that are larger than requests": ["--filter=blocksize,minBlock=4096", ...probe(1)],
  "four layers": [
    "--filter=delay,flushMs=1",
    "--filter=cow",
    "--filter=readahead",
    "--filter=cache,mode=writeback",
    ...MEMORY,
  ],
};

describe("a ring of requests in shared memory", () => {
  test.each(Object.entries(CHAINS))("serves %s", async (_, words) => {
    const ring = await startRing(words);
    // The probe's disk has room for four.
    expect(await ring.client("model", SEED, 1500, 4)).toBe("0 failed\n");
    await ring.stop();
  });

  test("passes on what fails, and nothing else is touched by it", async () => {
    const ring = await startRing([
      "--filter=error,preadRate=0.1,pwriteRate=0.1,flushRate=0.1",
      "--filter=cow",
      ...MEMORY,
    ]);
    const failed = Number.parseInt(await ring.client("model", SEED, 1000, 4), 10);
    expect(failed).toBeGreaterThan(0);
    expect(failed).toBeLessThan(2000);
    await ring.stop();
  });

  test("lets requests overtake one that lasts, if the plugin does", async () => {
    const ring = await startRing([testPlugin("probe"), "delay-ms=1500", "quick-below=65536"]);
    await ring.client("overtake", 65536);
    await ring.stop();
  });

  test.each(["torture", "memory"])("outlives clients of %s that die", async (plugin) => {
    const ring = await startRing([testPlugin(plugin), "size=4M"]);
    for (let i = 0; i < 5; i++) await ring.killed("die", SEED + i);
    expect(await ring.client("model", SEED, 200, 1)).toBe("0 failed\n");
    await ring.stop();
  });

  test("gives up what is never answered once the client has died", async () => {
    const NEVER = 10 * 65536;
    const ring = await startRing([testPlugin("asyncprobe")], {
      ASAN_OPTIONS: "detect_leaks=0", // what the plugin may still reply to
    });
    await ring.killed("abandon", NEVER);
    const said = await ring.stop();
    expect(said).toContain("read offset=655360 count=512: the plugin did not reply: giving up");
  });

  test("has one client at a time where the plugin stands no more", async () => {
    const ring = await startRing(probe(0));
    await ring.idle(1);
    await expect(ring.client("idle", 1)).rejects.toThrow(/hello|no welcome/); // it is hung up on
    await ring.stop();
  });

  test("ends with clients that have nothing to do", async () => {
    const ring = await startRing(MEMORY);
    const clients = await ring.idle(12); // more than have threads of their own
    await ring.stop();
    expect(await clients.ended).toBe(0);
  });
});

describe("a client of the ring that is hostile", () => {
  test("gets errors or loses its connection, and harms nobody else", async () => {
    const ring = await startRing(["--filter=cow", "--filter=delay,readMs=200", ...MEMORY]);
    await ring.client("wrong", SEED);
    expect(await ring.stop()).toContain("the client's indices make no sense: it is disconnected");
  });

  test.each(["cow", "cache,mode=writeback", "blocksize,minBlock=4096"])(
    "may write over all it shares, in front of %s",
    async (filter) => {
      // Its requests overlap, and of what they write, the disk in memory makes what the processors do.
      const inTurn = "--filter=noparallel,serialize=all-requests";
      const ring = await startRing([`--filter=${filter}`, inTurn, ...MEMORY]);
      await ring.client("scribble", SEED);
      await ring.stop();
    },
  );
});
