// An export that native code has opened, for middleware in front of it.

import type { NativeExport, OpenedExport, WantedFacts } from "../addon/types.js";
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
} from "../protocol.js";
import { loggedFailure } from "./script/errno.js";
import type { ExportFacts, OpenExport } from "./script/layer.js";
import type { BlockSize, Extent, ExtentsInfo, Status, Support } from "./script/requests.js";

const EIO = 5;

/** Middleware has all facts before it. */
export const WANTS_ALL: WantedFacts = { description: true, blockSizes: true };

/** The answer of a call that has logged its failure. */
export function answered<T>(answer: T | null): T {
  if (answer === null) throw loggedFailure({ errno: EIO });
  return answer;
}

/** Native code does what the plugin cannot, so that it need not be done in front of it. */
const support = (can: boolean): Support => (can ? "native" : "none");

function blockSizeOf(opened: OpenedExport): BlockSize | undefined {
  const [minimum, preferred, maximum] = answered(opened.blockSizes);
  return minimum === 0 ? undefined : { minimum, preferred, maximum };
}

const factsOf = (opened: OpenedExport, contexts: readonly string[]): ExportFacts =>
  Object.freeze({
    sizeBytes: Number(opened.sizeBytes),
    canWrite: opened.canWrite,
    canFlush: opened.canFlush,
    canTrim: opened.canTrim,
    canFastZero: opened.canFastZero,
    canExtents: opened.canExtents,
    canMultiConn: opened.canMultiConn,
    isRotational: opened.isRotational,
    zero: support(opened.canZero),
    fua: support(opened.canFua),
    cache: support(opened.canCache),
    description: opened.description,
    blockSize: blockSizeOf(opened),
    contexts,
  });

async function closeNative(native: NativeExport): Promise<void> {
  await native.closeExport();
  native.release();
}

const fuaOf = ({ fua }: { readonly fua: boolean }): number => (fua ? NBD_CMD_FLAG_FUA : 0);

async function request(
  native: NativeExport,
  command: number,
  flags: number,
  offset: number,
  count: number,
  data?: Buffer,
): Promise<void> {
  const failed = await native.request(command, flags, offset, count, data);
  if (failed !== undefined && "errno" in failed) throw loggedFailure(failed);
}

/** Of the context of this number; 0: base:allocation. */
async function statuses(
  native: NativeExport,
  context: number,
  count: number,
  offset: number,
  { reqOne }: ExtentsInfo,
): Promise<Status[]> {
  const flags = reqOne ? NBD_CMD_FLAG_REQ_ONE : 0;
  const answer = await native.request(
    NBD_CMD_BLOCK_STATUS,
    flags,
    offset,
    count,
    undefined,
    context,
  );
  if (answer === undefined) return [];
  if ("errno" in answer) throw loggedFailure(answer);
  const list: Status[] = [];
  let at = offset;
  for (let i = 0; i < answer.length; i += 3) {
    const [length = 0, low = 0, high = 0] = answer.slice(i, i + 3);
    list.push({
      offset: at,
      length,
      flags: high === 0 ? low : (BigInt(high) << 32n) | BigInt(low),
    });
    at += length;
  }
  return list;
}

const extentOf = ({ offset, length, flags }: Status): Extent => ({
  offset,
  length,
  hole: (Number(flags) & NBD_STATE_HOLE) !== 0,
  zero: (Number(flags) & NBD_STATE_ZERO) !== 0,
});

/**
 * Takes the export over, and closes it if it cannot be described. `contexts`: its own, by number
 * from 1 on.
 */
export async function exportOfNative(
  native: NativeExport,
  opened: OpenedExport,
  contexts: readonly string[],
): Promise<OpenExport> {
  let facts: ExportFacts;
  try {
    facts = factsOf(opened, contexts);
  } catch (error) {
    await closeNative(native);
    throw error;
  }
  return {
    facts,
    read: (buf, offset) => request(native, NBD_CMD_READ, 0, offset, buf.length, buf),
    write: (buf, offset, info) =>
      request(native, NBD_CMD_WRITE, fuaOf(info), offset, buf.length, buf),
    flush: () => request(native, NBD_CMD_FLUSH, 0, 0, 0),
    trim: (count, offset, info) => request(native, NBD_CMD_TRIM, fuaOf(info), offset, count),
    zero(count, offset, info) {
      const hole = info.mayTrim ? 0 : NBD_CMD_FLAG_NO_HOLE;
      const fast = info.fastZero ? NBD_CMD_FLAG_FAST_ZERO : 0;
      return request(native, NBD_CMD_WRITE_ZEROES, fuaOf(info) | hole | fast, offset, count);
    },
    cache: (count, offset) => request(native, NBD_CMD_CACHE, 0, offset, count),
    extents: async (count, offset, info) =>
      (await statuses(native, 0, count, offset, info)).map(extentOf),
    status: (name, count, offset, info) =>
      statuses(native, contexts.indexOf(name) + 1, count, offset, info),
    close: () => closeNative(native),
  };
}
