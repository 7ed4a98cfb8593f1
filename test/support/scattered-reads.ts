// A disk read from one end to the other, in pieces that are not adjacent to any that are read at the
// same time: each is a request of its own to a server elsewhere.

import { expect } from "vitest";
import { CMD } from "./protocol.js";
import type { RunningServer } from "./server.js";
import { StrictClient } from "./strict-client.js";

const PIECE_BYTES = 4096;
const AT_ONCE = 64;

/** Compares each with the content. */
export async function readScattered(server: RunningServer, content: Buffer): Promise<void> {
  const client = await StrictClient.connect(server.socket, { style: "structured" });
  const pieces = content.length / PIECE_BYTES;
  const waves = pieces / AT_ONCE;
  for (let wave = 0; wave < waves; wave++) {
    const offsets = Array.from({ length: AT_ONCE }, (_, i) => (i * waves + wave) * PIECE_BYTES);
    const replies = await client.requests(
      ...offsets.map((at) => ({ type: CMD.READ, offset: BigInt(at), length: PIECE_BYTES })),
    );
    for (const [i, { error, data }] of replies.entries()) {
      const at = offsets[i] as number;
      expect(error).toBe(0);
      expect(data.equals(content.subarray(at, at + PIECE_BYTES))).toBe(true);
    }
  }
}
