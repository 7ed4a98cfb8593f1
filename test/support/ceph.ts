// A real Ceph cluster on this machine for the tests of one file (scripts/ceph).

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll } from "vitest";
import { runOk } from "./command.js";
import { isStopped } from "./process.js";
import { eventually } from "./server.js";

const script = fileURLToPath(new URL("../../scripts/ceph", import.meta.url));

const START_TIMEOUT_MS = 120_000;

export interface CephOptions {
  /** With an S3 server. */
  readonly s3?: boolean;
  readonly store?: "memstore" | "bluestore";
  readonly auth?: "none" | "cephx";
}

export class Ceph {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  get conf(): string {
    return join(this.directory, "ceph.conf");
  }

  /** Of the S3 server. */
  get s3Port(): number {
    return Number(readFileSync(join(this.directory, "s3-port"), "utf8"));
  }

  /** Of "osd.0", "mon.a" or "client.s3". */
  signal(daemon: string, signal: NodeJS.Signals): void {
    process.kill(this.#pidOf(daemon), signal);
  }

  /**
   * Resolves once nothing of it runs: a signal is received by one of its threads, which has the others
   * stop, and until then these may still answer a request that comes after the signal.
   */
  async stop(daemon: string): Promise<void> {
    this.signal(daemon, "SIGSTOP");
    await eventually(`stop of ${daemon}`, () => isStopped(this.#pidOf(daemon)) || undefined);
  }

  #pidOf(daemon: string): number {
    return Number(readFileSync(join(this.directory, "run", `${daemon}.pid`), "utf8"));
  }

  /** Runs one of Ceph's commands. Resolves with what it prints. */
  run(...words: readonly string[]): Promise<string> {
    return runOk(words, { env: { ...process.env, CEPH_CONF: this.conf } });
  }
}

/** From before the file's first test until after its last. */
export function startCeph({
  store = "memstore",
  auth = "none",
  s3 = false,
}: CephOptions = {}): Ceph {
  const directory = mkdtempSync(join(tmpdir(), "asyncnbd-ceph-"));
  const ceph = (...words: string[]) => execFileSync(script, words, { stdio: "inherit" });
  beforeAll(() => {
    ceph("up", directory, store, auth);
    if (s3) ceph("s3", directory);
  }, START_TIMEOUT_MS);
  afterAll(() => {
    ceph("down", directory);
    rmSync(directory, { recursive: true, force: true });
  });
  return new Ceph(directory);
}
