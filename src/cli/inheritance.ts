// What this process has inherited and Node has changed before any of our code ran: signals that were
// ignored, standard streams that were closed, and descriptors 3 to 9. Node takes the free ones among
// those, but plugins may need a number of a single digit, since dash knows no other in `>&9`. So
// prologue.sh, and the launcher of a server in the background, reserve them before Node starts.

import { closeSync, openSync } from "node:fs";

const FIRST = 3;
const END = 10;
const NUMBERS = Array.from({ length: END - FIRST }, (_, i) => FIRST + i);

/** The digits of descriptors that have been reserved. */
const RESERVED_VARIABLE = "ASYNCNBD_RESERVED_FDS";
/** A mask as in /proc/PID/status, in hexadecimal. */
const IGNORED_VARIABLE = "ASYNCNBD_IGNORED_SIGNALS";
/** The digits of standard streams, in whose place Node has opened /dev/null. */
const CLOSED_VARIABLE = "ASYNCNBD_CLOSED_STREAMS";

export interface Inheritance {
  /** Open on /dev/null, to be closed before a plugin is loaded. */
  readonly reservedFds: readonly number[];
  /** From whoever has started the command, for plugins and the programs that they start. */
  readonly inheritedFds: readonly number[];
  readonly ignoredSignals: readonly number[];
  /** Of the standard streams. */
  readonly closedStreams: readonly number[];
}

/**
 * Of the descriptors, the first `activatedSockets` are the server's. Nothing is known if Node was
 * started directly. Takes the variables away, which are not for our children.
 */
export function takeInheritance(env: NodeJS.ProcessEnv, activatedSockets: number): Inheritance {
  const {
    [RESERVED_VARIABLE]: digits,
    [IGNORED_VARIABLE]: mask = "",
    [CLOSED_VARIABLE]: closed = "",
  } = env;
  for (const name of [RESERVED_VARIABLE, IGNORED_VARIABLE, CLOSED_VARIABLE]) delete env[name];
  if (digits === undefined)
    return { reservedFds: [], inheritedFds: [], ignoredSignals: [], closedStreams: [] };
  const reservedFds = NUMBERS.filter((fd) => digits.includes(String(fd)));
  return {
    reservedFds,
    inheritedFds: NUMBERS.filter(
      (fd) => fd >= FIRST + activatedSockets && !reservedFds.includes(fd),
    ),
    ignoredSignals: signalsIn(mask),
    closedStreams: [0, 1, 2].filter((fd) => closed.includes(String(fd))),
  };
}

function signalsIn(mask: string): number[] {
  const bits = /^[0-9a-f]{1,16}$/.test(mask) ? BigInt(`0x${mask}`) : 0n;
  return Array.from({ length: 31 }, (_, i) => i + 1).filter((n) => (bits >> BigInt(n - 1)) & 1n);
}

/**
 * Starts a child that inherits the same, with `low` for its descriptors from 3 on, and one more,
 * numbered `next`.
 */
export function passOn<T>(
  { inheritedFds, ignoredSignals }: Inheritance,
  start: (low: readonly number[], env: NodeJS.ProcessEnv, next: number) => T,
): T {
  const nothing = openSync("/dev/null", "r");
  try {
    const low = NUMBERS.map((fd) => (inheritedFds.includes(fd) ? fd : nothing));
    const mask = ignoredSignals.reduce((bits, signal) => bits | (1n << BigInt(signal - 1)), 0n);
    const env = {
      ...process.env,
      [RESERVED_VARIABLE]: NUMBERS.filter((fd) => !inheritedFds.includes(fd)).join(""),
      [IGNORED_VARIABLE]: mask.toString(16),
    };
    return start(low, env, END);
  } finally {
    closeSync(nothing);
  }
}
