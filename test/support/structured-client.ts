// A raw client with structured replies, and what its chunks say.

import { expect } from "vitest";
import { CHUNK, DONE, OPT, REP } from "./protocol.js";
import {
  type Chunk,
  goData,
  type OptionReply,
  RawClient,
  type RequestFields,
} from "./raw-client.js";
import type { RunningServer } from "./server.js";
import { contextQueries } from "./strict-client.js";

const { GO, SET_META_CONTEXT, STRUCTURED_REPLY } = OPT;
const { ACK, META_CONTEXT } = REP;

/** All replies to one option, the last of which ends it. */
export async function ask(
  client: RawClient,
  option: number,
  data?: Buffer,
): Promise<OptionReply[]> {
  client.sendOption(option, data);
  const replies: OptionReply[] = [];
  for (;;) {
    const reply = await client.readOptionReply();
    replies.push(reply);
    if (reply.type !== META_CONTEXT && reply.type !== REP.INFO) return replies;
  }
}

export const typesOf = (replies: readonly OptionReply[]): number[] =>
  replies.map(({ type }) => type);

/** Past the handshake, with structured replies and base:allocation unless told otherwise. */
export async function connected(
  server: RunningServer,
  { structured = true, contexts = ["base:allocation"], contextsOf = "" } = {},
) {
  const client = await RawClient.connect(server.socket);
  await client.greet();
  if (structured) expect(typesOf(await ask(client, STRUCTURED_REPLY))).toEqual([ACK]);
  let context = -1;
  if (structured && contexts.length > 0) {
    const [selected] = await ask(client, SET_META_CONTEXT, contextQueries(contextsOf, ...contexts));
    if (selected?.type === META_CONTEXT) context = selected.data.readUInt32BE(0);
  }
  const replies = await ask(client, GO, goData(""));
  expect(replies.at(-1)?.type).toBe(ACK);
  const flags = replies[0]?.data.readUInt16BE(10) as number;
  const chunkOf = async (request: RequestFields): Promise<Chunk> => {
    client.sendRequest({ cookie: 0x1234n, ...request });
    const chunk = await client.readChunk();
    expect(chunk).toMatchObject({ flags: DONE, cookie: request.cookie ?? 0x1234n });
    return chunk;
  };
  return { client, context, flags, chunkOf };
}

export function errorOf({ type, payload }: Chunk): { error: number; message: string } {
  expect(type).toBe(CHUNK.ERROR);
  const bytes = payload.readUInt16BE(4);
  expect(payload.length).toBe(6 + bytes);
  return { error: payload.readUInt32BE(0), message: payload.toString("utf8", 6) };
}

export function extentsOf({ type, payload }: Chunk, context: number): [number, number][] {
  expect(type).toBe(CHUNK.BLOCK_STATUS);
  expect(payload.readUInt32BE(0)).toBe(context);
  expect(payload.length).toBeGreaterThan(4);
  expect((payload.length - 4) % 8).toBe(0);
  const list: [number, number][] = [];
  for (let at = 4; at < payload.length; at += 8)
    list.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)]);
  return list;
}
