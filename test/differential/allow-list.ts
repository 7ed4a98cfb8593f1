// Where asyncnbd means to differ from the nbdkit it is compared with, and why. Every entry is
// checked: when nbdkit no longer behaves so, its test fails and the entry must go.

import { ERRNO } from "../support/protocol.js";

export interface Difference<T> {
  readonly nbdkit: T;
  readonly asyncnbd: T;
  readonly why: string;
}

const { EINVAL, ENOMEM } = ERRNO;

/** NBD errors of raw requests, or that the connection ends, by the request's title. */
export const REQUEST_DIFFERENCES: Readonly<Record<string, Difference<number | string>>> = {
  "read of 64 MiB + 1": {
    nbdkit: ENOMEM,
    asyncnbd: EINVAL,
    why: "the specification asks servers to avoid ENOMEM",
  },
  "write of 64 MiB + 1": {
    nbdkit: ENOMEM,
    asyncnbd: EINVAL,
    why: "the specification asks servers to avoid ENOMEM",
  },
  "write of 128 MiB + 1": {
    nbdkit: "the server closed",
    asyncnbd: EINVAL,
    why: "a payload can be skipped whatever its length, and the connection stays good",
  },
  "fast zero, not offered": {
    nbdkit: "the server closed",
    asyncnbd: EINVAL,
    why: "nbdkit 1.32 fails an assertion and aborts, which any client can make it do",
  },
};

interface Outcome {
  readonly status: number;
  readonly stdout: string;
}

/** Exit statuses and outputs of command lines, by the line's title. */
export const COMMAND_DIFFERENCES: Readonly<Record<string, Difference<Outcome>>> = {
  "-p 0": {
    nbdkit: { status: 0, stdout: "0" },
    asyncnbd: { status: 0, stdout: "chosen" },
    why: "nbdkit does not know which port it got",
  },
  "--run without -U": {
    nbdkit: { status: 0, stdout: "tcp" },
    asyncnbd: { status: 0, stdout: "unix" },
    why: "nbdkit 1.36 and later use a private socket too",
  },
};

/** Exit statuses of `-U - OPTION memory 1M --run true`, by the option. */
export const OPTION_DIFFERENCES: Readonly<Record<string, Difference<number>>> = {
  "--tls-priority=NORMAL": { nbdkit: 1, asyncnbd: 0, why: "newer nbdkits have it" },
  "--no-eh": { nbdkit: 1, asyncnbd: 0, why: "an addition: nbdkit has no extended headers" },
  "--log=default": { nbdkit: 1, asyncnbd: 0, why: "newer nbdkits know it" },
  "--keepalive": {
    nbdkit: 1,
    asyncnbd: 0,
    why: "newer nbdkits have it; TCP keepalive is always on",
  },
  "--log=/dev/null": { nbdkit: 1, asyncnbd: 0, why: "newer nbdkits append to files" },
  "--print-uri": { nbdkit: 1, asyncnbd: 0, why: "newer nbdkits have it" },
  "--timeout=9": { nbdkit: 1, asyncnbd: 0, why: "newer nbdkits have it" },
  "--no-mc": { nbdkit: 1, asyncnbd: 0, why: "newer nbdkits have it" },
  "--no-structured-replies": { nbdkit: 1, asyncnbd: 0, why: "newer nbdkits have it" },
  "--spin=0": { nbdkit: 1, asyncnbd: 0, why: "an addition, for a data plane of our own" },
  "--completion=bash": { nbdkit: 1, asyncnbd: 0, why: "an addition; nbdkit has files for that" },
};

/** Fields of nbdinfo's JSON, for a writable disk of a plugin that states no block sizes. */
export const EXPORT_DIFFERENCES: Readonly<Record<string, Difference<unknown>>> = {
  block_size_minimum: {
    nbdkit: undefined,
    asyncnbd: 1,
    why: "it is what the server stands, and clients need not guess",
  },
  block_size_preferred: {
    nbdkit: undefined,
    asyncnbd: 4096,
    why: "it is the specification's default, and clients need not guess",
  },
  block_size_maximum: {
    nbdkit: undefined,
    asyncnbd: 64 << 20,
    why: "it is the longest payload that the server accepts, which nbdkit does not tell",
  },
};

/** Where zeroing 150 MiB at 1 MiB is written, in MiB, for a plugin whose zero says ENOTSUP. */
export const ZERO_BY_WRITING: Difference<readonly number[]> = {
  nbdkit: [1, 1, 1],
  asyncnbd: [1, 65, 129],
  why: "nbdkit 1.32 forgets to advance after 64 MiB, which leaves old data; fixed in 1.38",
};
