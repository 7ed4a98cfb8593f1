// Socket activation: listening sockets from whoever has started us, such as systemd or libnbd.

import type { GivenOptions } from "../config/given-options.js";
import { ASKING_OPTIONS } from "../config/listeners/index.js";
import { UsageError } from "../errors.js";

/** What would make sockets of their own, or none. */
const CONTRADICTIONS = [...ASKING_OPTIONS, "run"];

/**
 * How many sockets have been handed over, as descriptors from 3 on: sd_listen_fds(3). Takes the
 * variables away, which are not for our children.
 */
export function takeActivation(env: NodeJS.ProcessEnv): number {
  const { LISTEN_PID: pid, LISTEN_FDS: count = "" } = env;
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete env[name];
  if (pid !== String(process.pid)) return 0;
  if (!/^[1-9]\d{0,3}$/.test(count))
    throw new UsageError(`LISTEN_FDS=${count} is not a number of sockets`);
  return Number(count);
}

export function checkActivation(given: GivenOptions): void {
  const wrong = CONTRADICTIONS.find((option) => given.has(option));
  if (wrong !== undefined)
    throw new UsageError(`--${wrong} and socket activation (LISTEN_FDS) cannot be used together`);
}
