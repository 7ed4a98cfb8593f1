// A disk that is slow, fails, and answers late, all at random; and says what memory it takes.

import { appendFileSync } from "node:fs";
import { definePlugin, failure } from "asyncnbd";

const FAILING = 0.02;
const LATE = 0.001;
const TIMEOUT_MS = 300;
const SAMPLE_EVERY_MS = 500;

let disk: Buffer | undefined;
const lastOfClient = new Map<string, Promise<void>>();

/** Does `work` after a while, or fails before it. */
async function perform(work: () => void): Promise<void> {
  const lot = Math.random();
  if (lot < FAILING) throw failure("EIO", "bad luck");
  // Too late: the client has been told of a failure, so nothing must happen.
  if (lot < FAILING + LATE) {
    await new Promise((resolve) => setTimeout(resolve, 2 * TIMEOUT_MS));
    return;
  }
  if (lot < 0.3) await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
  else if (lot < 0.6) await new Promise((resolve) => setImmediate(resolve));
  work();
}

interface Handle {
  readonly disk: Buffer;
  readonly onClose: () => void;
}

export default definePlugin({
  name: "soak",
  config: { size: "size", samples: "path" },
  requestTimeoutMs: TIMEOUT_MS,
  canMultiConn: () => true,

  afterFork() {
    const { gc } = globalThis as { gc?: () => void };
    setInterval(() => {
      gc?.();
      appendFileSync(this.config.samples, `${JSON.stringify(process.memoryUsage())}\n`);
    }, SAMPLE_EVERY_MS).unref();
  },

  /** Names are CLIENT-N: each connection of a client comes when the one before it is closed. */
  async open({ exportName }): Promise<Handle> {
    const [client = ""] = exportName.split("-");
    const before = lastOfClient.get(client);
    let onClose = (): void => {};
    lastOfClient.set(
      client,
      new Promise((resolve) => {
        onClose = resolve;
      }),
    );
    await before;
    disk ??= Buffer.alloc(this.config.size);
    return { disk, onClose };
  },
  close: ({ onClose }) => onClose(),

  getSize: ({ disk }) => disk.length,
  pread: ({ disk }, buf, offset) => perform(() => disk.copy(buf, 0, offset, offset + buf.length)),
  pwrite: ({ disk }, buf, offset) => perform(() => buf.copy(disk, offset)),
  flush: () => perform(() => {}),
  trim: ({ disk }, count, offset) => perform(() => disk.fill(0, offset, offset + count)),
  zero: ({ disk }, count, offset) => perform(() => disk.fill(0, offset, offset + count)),
});
