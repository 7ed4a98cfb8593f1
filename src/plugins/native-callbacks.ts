// An export that native code has opened, as the callbacks of a plugin in TypeScript.

import type { NativeExport, OpenedExport } from "../addon/types.js";
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_STATE_HOLE,
  NBD_STATE_ZERO,
} from "./script/commands.js";
import { loggedFailure } from "./script/errno.js";
import type { Extent, ExtentsInfo, RequestInfo, Support, WriteInfo } from "./script/requests.js";

const EIO = 5;

export interface NativeHandle {
  readonly native: NativeExport;
  readonly opened: OpenedExport;
}

/** The answer of a call that has logged its failure. */
export function answered<T>(answer: T | null): T {
  if (answer === null) throw loggedFailure(EIO);
  return answer;
}

const support = (can: boolean): Support => (can ? "native" : "none");
const fuaOf = ({ fua }: WriteInfo): number => (fua ? NBD_CMD_FLAG_FUA : 0);

async function request(
  { native }: NativeHandle,
  command: number,
  flags: number,
  offset: number,
  count: number,
  data?: Buffer,
): Promise<void> {
  const errno = await native.request(command, flags, offset, count, data);
  if (typeof errno === "number" && errno !== 0) throw loggedFailure(errno);
}

async function extents(
  { native }: NativeHandle,
  count: number,
  offset: number,
  { reqOne }: ExtentsInfo,
): Promise<Extent[]> {
  const answer = await native.request(
    NBD_CMD_BLOCK_STATUS,
    reqOne ? NBD_CMD_FLAG_REQ_ONE : 0,
    offset,
    count,
  );
  if (typeof answer === "number") throw loggedFailure(answer);
  const list: Extent[] = [];
  let at = offset;
  for (let i = 0; i < answer.length; i += 2) {
    const [length = 0, state = 0] = answer.slice(i, i + 2);
    list.push({
      offset: at,
      length,
      hole: (state & NBD_STATE_HOLE) !== 0,
      zero: (state & NBD_STATE_ZERO) !== 0,
    });
    at += length;
  }
  return list;
}

/** What it is asked; it has answered when it was opened. */
const capabilities = {
  getSize: ({ opened }: NativeHandle) => opened.sizeBytes,
  canWrite: ({ opened }: NativeHandle) => opened.canWrite,
  canFlush: ({ opened }: NativeHandle) => opened.canFlush,
  canTrim: ({ opened }: NativeHandle) => opened.canTrim,
  canZero: ({ opened }: NativeHandle) => opened.canZero,
  canFastZero: ({ opened }: NativeHandle) => opened.canFastZero,
  canFua: ({ opened }: NativeHandle) => support(opened.canFua),
  canCache: ({ opened }: NativeHandle) => support(opened.canCache),
  canExtents: ({ opened }: NativeHandle) => opened.canExtents,
  canMultiConn: ({ opened }: NativeHandle) => opened.canMultiConn,
  isRotational: ({ opened }: NativeHandle) => opened.isRotational,
};

const requests = {
  pread: (handle: NativeHandle, buf: Buffer, offset: number) =>
    request(handle, NBD_CMD_READ, 0, offset, buf.length, buf),
  pwrite: (handle: NativeHandle, buf: Buffer, offset: number, info: WriteInfo) =>
    request(handle, NBD_CMD_WRITE, fuaOf(info), offset, buf.length, buf),
  flush: (handle: NativeHandle, _info: RequestInfo) => request(handle, NBD_CMD_FLUSH, 0, 0, 0),
  trim: (handle: NativeHandle, count: number, offset: number, info: WriteInfo) =>
    request(handle, NBD_CMD_TRIM, fuaOf(info), offset, count),
  zero: (
    handle: NativeHandle,
    count: number,
    offset: number,
    info: WriteInfo & { mayTrim: boolean; fastZero: boolean },
  ) => {
    const hole = info.mayTrim ? 0 : NBD_CMD_FLAG_NO_HOLE;
    const fast = info.fastZero ? NBD_CMD_FLAG_FAST_ZERO : 0;
    return request(handle, NBD_CMD_WRITE_ZEROES, fuaOf(info) | hole | fast, offset, count);
  },
  cache: (handle: NativeHandle, count: number, offset: number) =>
    request(handle, NBD_CMD_CACHE, 0, offset, count),
  extents,
};

export const nativeCallbacks = {
  async close({ native }: NativeHandle): Promise<void> {
    await native.closeExport();
    native.release();
  },
  exportDescription: ({ native }: NativeHandle) => native.exportDescription(),
  async blockSize({ native }: NativeHandle) {
    const [minimum, preferred, maximum] = answered(await native.blockSizes());
    return minimum === 0 ? undefined : { minimum, preferred, maximum };
  },
  ...capabilities,
  ...requests,
};
