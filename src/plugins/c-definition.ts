// A C plugin as the callbacks of one in TypeScript, so that middleware can stand in front of it.

import { addon } from "../addon/addon.js";
import type { NativeExport, NativePlugin, OpenedExport } from "../addon/types.js";
import type { PluginInstance } from "./plugin-instance.js";
import { sessionOf } from "./script/client.js";
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

const EIO = 5;

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
const fuaOf = ({ fua }: WriteInfo): number => (fua ? NBD_CMD_FLAG_FUA : 0);

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
    request(handle, NBD_CMD_READ, 0, offset, buf.length, buf),
  pwrite: (handle: Handle, buf: Buffer, offset: number, info: WriteInfo) =>
    request(handle, NBD_CMD_WRITE, fuaOf(info), offset, buf.length, buf),
  flush: (handle: Handle, _info: RequestInfo) => request(handle, NBD_CMD_FLUSH, 0, 0, 0),
  trim: (handle: Handle, count: number, offset: number, info: WriteInfo) =>
    request(handle, NBD_CMD_TRIM, fuaOf(info), offset, count),
  zero: (
    handle: Handle,
    count: number,
    offset: number,
    info: WriteInfo & { mayTrim: boolean; fastZero: boolean },
  ) => {
    const hole = info.mayTrim ? 0 : NBD_CMD_FLAG_NO_HOLE;
    const fast = info.fastZero ? NBD_CMD_FLAG_FAST_ZERO : 0;
    return request(handle, NBD_CMD_WRITE_ZEROES, fuaOf(info) | hole | fast, offset, count);
  },
  cache: (handle: Handle, count: number, offset: number) =>
    request(handle, NBD_CMD_CACHE, 0, offset, count),
  extents,
};

/** Native code takes care of the thread model, and of what stands in for missing callbacks. */
export function definitionOf(
  plugin: PluginInstance,
  native: NativePlugin,
  threads: number,
): Plugin {
  const exportFor = (client: ClientInfo): NativeExport => {
    return new (addon().NativeExport)(native, sessionOf(client), {
      threads,
      readonly: client.readonly,
    });
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
