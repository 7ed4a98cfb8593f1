// A C plugin as the callbacks of one in TypeScript, so that middleware can stand in front of it.

import { addon } from "../addon/load.js";
import type { NativeExport, NativePlugin, NativeSession, OpenedExport } from "../addon/types.js";
import type {
  ClientInfo,
  Extent,
  ExtentsInfo,
  Plugin,
  RequestInfo,
  Support,
  WriteInfo,
} from "./script/definition.js";
import { loggedFailure } from "./script/errno.js";
import { FLAG_FAST_ZERO, FLAG_FUA, FLAG_NO_HOLE, FLAG_REQ_ONE } from "./script/export.js";
import { SESSION } from "./script/session.js";
import type { ServedPlugin } from "./served-plugin.js";

const EIO = 5;

// NBD_CMD_*
const READ = 0;
const WRITE = 1;
const FLUSH = 3;
const TRIM = 4;
const CACHE = 5;
const WRITE_ZEROES = 6;
const BLOCK_STATUS = 7;

interface Handle {
  readonly native: NativeExport;
  readonly opened: OpenedExport;
}

/** The answer of a call that has logged its failure. */
function answered<T>(answer: T | null): T {
  if (answer === null) throw loggedFailure(EIO);
  return answer;
}

const support = (can: boolean): Support => (can ? "native" : "none");
const fuaOf = ({ fua }: WriteInfo): number => (fua ? FLAG_FUA : 0);

async function request(
  { native }: Handle,
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
  { native }: Handle,
  count: number,
  offset: number,
  { reqOne }: ExtentsInfo,
): Promise<Extent[]> {
  const answer = await native.request(BLOCK_STATUS, reqOne ? FLAG_REQ_ONE : 0, offset, count);
  if (typeof answer === "number") throw loggedFailure(answer);
  const list: Extent[] = [];
  let at = offset;
  for (let i = 0; i < answer.length; i += 2) {
    const [length = 0, state = 0] = answer.slice(i, i + 2);
    list.push({ offset: at, length, hole: (state & 1) !== 0, zero: (state & 2) !== 0 });
    at += length;
  }
  return list;
}

/** What the plugin is asked of an open export; it has answered when it was opened. */
const capabilities = {
  getSize: ({ opened }: Handle) => opened.sizeBytes,
  canWrite: ({ opened }: Handle) => opened.canWrite,
  canFlush: ({ opened }: Handle) => opened.canFlush,
  canTrim: ({ opened }: Handle) => opened.canTrim,
  canZero: ({ opened }: Handle) => opened.canZero,
  canFastZero: ({ opened }: Handle) => opened.canFastZero,
  canFua: ({ opened }: Handle) => support(opened.canFua),
  canCache: ({ opened }: Handle) => support(opened.canCache),
  canExtents: ({ opened }: Handle) => opened.canExtents,
  canMultiConn: ({ opened }: Handle) => opened.canMultiConn,
  isRotational: ({ opened }: Handle) => opened.isRotational,
};

const requests = {
  pread: (handle: Handle, buf: Buffer, offset: number) =>
    request(handle, READ, 0, offset, buf.length, buf),
  pwrite: (handle: Handle, buf: Buffer, offset: number, info: WriteInfo) =>
    request(handle, WRITE, fuaOf(info), offset, buf.length, buf),
  flush: (handle: Handle, _info: RequestInfo) => request(handle, FLUSH, 0, 0, 0),
  trim: (handle: Handle, count: number, offset: number, info: WriteInfo) =>
    request(handle, TRIM, fuaOf(info), offset, count),
  zero: (
    handle: Handle,
    count: number,
    offset: number,
    info: WriteInfo & { mayTrim: boolean; fastZero: boolean },
  ) => {
    const hole = info.mayTrim ? 0 : FLAG_NO_HOLE;
    const fast = info.fastZero ? FLAG_FAST_ZERO : 0;
    return request(handle, WRITE_ZEROES, fuaOf(info) | hole | fast, offset, count);
  },
  cache: (handle: Handle, count: number, offset: number) =>
    request(handle, CACHE, 0, offset, count),
  extents,
};

/** Native code takes care of the thread model, and of what stands in for missing callbacks. */
export function definitionOf(plugin: ServedPlugin, native: NativePlugin, threads: number): Plugin {
  const exportFor = (client: ClientInfo): NativeExport => {
    const session = (client as ClientInfo & { [SESSION]: NativeSession })[SESSION];
    return new (addon().NativeExport)(native, session, { threads, readonly: client.readonly });
  };
  /** What needs no open export. */
  const ask = async <T>(client: ClientInfo, question: (native: NativeExport) => Promise<T>) => {
    const asked = exportFor(client);
    try {
      return await question(asked);
    } finally {
      asked.release();
    }
  };
  return {
    name: plugin.about.name,
    threadModel: plugin.serializesConnections ? "serialize_connections" : "parallel",
    getReady: () => plugin.getReady(),
    afterFork: () => plugin.afterFork(),
    unload: () => plugin.end(), // cleanup too
    preconnect: (client) => ask(client, (asked) => asked.preconnect()),
    listExports: async (client) => answered(await ask(client, (asked) => asked.listExports())),
    defaultExport: async (client) => answered(await ask(client, (asked) => asked.defaultExport())),
    async open(info): Promise<Handle> {
      const native = exportFor(info);
      const opened = await native.openExport(info.exportName);
      if (opened === null) native.release();
      return { native, opened: answered(opened) };
    },
    async close({ native }: Handle) {
      await native.closeExport();
      native.release();
    },
    exportDescription: ({ native }: Handle) => native.exportDescription(),
    async blockSize({ native }: Handle) {
      const [minimum, preferred, maximum] = answered(await native.blockSizes());
      return minimum === 0 ? undefined : { minimum, preferred, maximum };
    },
    ...capabilities,
    ...requests,
  };
}
