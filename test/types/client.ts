// Compiled by the type check, never run: right uses of the client compile, wrong ones do not.

import {
  type Client,
  ConnectionError,
  connect,
  type Extent,
  NbdError,
  ProtocolError,
} from "../../src/client/index.js";

declare const client: Client;

const fresh: Promise<Buffer> = client.read(0, 512);
const filled: Promise<Uint8Array> = client.read(0, new Uint8Array(512), { whole: true });
// @ts-expect-error what is read into a Uint8Array is no Buffer
const buffer: Promise<Buffer> = client.read(0, new Uint8Array(512));
void [fresh, filled, buffer];

// @ts-expect-error offsets are numbers
client.read(0n, 512);
// @ts-expect-error bytes, and no text
client.write(0, "text");
// @ts-expect-error trims have no such option
client.trim(0, 512, { fast: true });
// @ts-expect-error reads have no FUA
client.read(0, 512, { fua: true });
client.zero(0, 512, { fua: true, noHole: true, fast: true, signal: AbortSignal.timeout(1) });
// @ts-expect-error facts do not change
client.size = 1;

connect("nbd://localhost", { reconnect: { attempts: 3, retry: "all" }, connections: 2 });
connect({ path: "/run/sock" }, { reconnect: true, tls: { verify: false } });
connect({ server: { connectPair: () => 3 } });
// @ts-expect-error no target
connect({ nosuch: 1 });
// @ts-expect-error no such policy
connect("nbd://localhost", { reconnect: { retry: "some" } });
// @ts-expect-error names, and not one name
connect("nbd://localhost", { contexts: "base:allocation" });
// @ts-expect-error a misspelt option
connect("nbd://localhost", { conections: 2 });
// @ts-expect-error a misspelt option of reconnecting
connect("nbd://localhost", { reconnect: { attemps: 3 } });
// @ts-expect-error a misspelt option of TLS
connect("nbds://localhost", { tls: { verfy: false } });
// @ts-expect-error a misspelt option of a request
client.read(0, 512, { signl: AbortSignal.timeout(1) });

async function use(): Promise<void> {
  for await (const extent of client.blockStatus()) {
    const { offset, length, flags, isHole }: Extent = extent;
    const bits: bigint = flags;
    // @ts-expect-error flags have 64 bits
    const number: number = flags;
    void [offset, length, isHole, bits, number];
  }
  try {
    await client.flush();
  } catch (error) {
    if (error instanceof NbdError && error.code === "ENOSPC") return;
    // @ts-expect-error no such code
    if (error instanceof NbdError && error.code === "ENOENT") return;
    if (error instanceof ProtocolError && error.rule === "cookie") return;
    // @ts-expect-error no such rule
    if (error instanceof ProtocolError && error.rule === "nosuch") return;
    if (error instanceof ConnectionError && error.code === "ECONNRESET") return;
  }
}
void use;
