// Where asyncnbd means to differ from the nbdkit it is compared with, and why. Every entry is
// checked: when nbdkit no longer behaves so, its test fails and the entry must go.

export interface Difference<T> {
  readonly nbdkit: T;
  readonly asyncnbd: T;
  readonly why: string;
}

const EINVAL = 22;
const ENOMEM = 12;

/** NBD errors of raw requests, by the request's title. */
export const REQUEST_DIFFERENCES: Readonly<Record<string, Difference<number>>> = {
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
};

/** Exit statuses and outputs of command lines, by the line's title. */
export const COMMAND_DIFFERENCES: Readonly<
  Record<string, Difference<{ status: number; stdout: string }>>
> = {
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

/** Where zeroing 150 MiB at 1 MiB is written, in MiB, for a plugin whose zero says ENOTSUP. */
export const ZERO_BY_WRITING: Difference<readonly number[]> = {
  nbdkit: [1, 1, 1],
  asyncnbd: [1, 65, 129],
  why: "nbdkit 1.32 forgets to advance after 64 MiB, which leaves old data; fixed in 1.38",
};
