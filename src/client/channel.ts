// A stream to a server, in plain text or TLS: bytes arrive here and go to whoever receives them now,
// the handshake and then the replies' reader.

import { connect as connectSocket, Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { ConnectionError } from "./errors.js";
import type { TargetObject } from "./target.js";

/** What the system receives into, unless a receiver has a better place. */
const RECEIVE_BYTES = 256 * 1024;

export interface Receiver {
  /** The bytes are at the beginning of `buffer`, which will be used again. May throw. */
  receive(buffer: Buffer, lengthBytes: number): void;
  /** Where the next bytes should go, if anywhere particular. */
  place?(): Uint8Array | undefined;
  /** The stream is over, and nothing comes any more. Once. */
  ended(error: Error): void;
}

const reset = (): ConnectionError =>
  new ConnectionError("ECONNRESET", "the server has closed the connection");

export class Channel {
  readonly #socket: Socket;
  readonly #buffer: Buffer;
  #receiver: Receiver | undefined;
  #error: Error | undefined;
  #isOver = false;

  private constructor(open: (channel: Channel) => Socket, receivesInPlace: boolean) {
    this.#buffer = receivesInPlace ? Buffer.allocUnsafeSlow(RECEIVE_BYTES) : Buffer.alloc(0);
    this.#socket = open(this);
    this.#watch(receivesInPlace);
  }

  /** Connects. `isPlain`: it stays in plain text, which is received without copies. */
  static async open(
    where: TargetObject,
    isPlain: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Channel> {
    signal?.throwIfAborted();
    const channel = new Channel((self) => self.#connect(where, isPlain), isPlain);
    await channel.#connected(signal);
    return channel;
  }

  #connect(where: TargetObject, isPlain: boolean): Socket {
    const options = {
      ...(isPlain && {
        onread: {
          buffer: () => this.#place(),
          callback: (lengthBytes: number, buffer: Uint8Array) => {
            this.#receive(buffer as Buffer, lengthBytes);
            return true;
          },
        },
      }),
    };
    if ("path" in where) return connectSocket({ ...options, path: where.path });
    if ("host" in where) {
      const { host, port = 10809 } = where;
      return connectSocket({ ...options, host, port, noDelay: true, keepAlive: true });
    }
    const fd = "fd" in where ? where.fd : where.server.connectPair();
    // `onread` is of all constructors, but in the types of connect() only.
    return new Socket({ ...options, fd } as ConstructorParameters<typeof Socket>[0]);
  }

  #watch(receivesInPlace: boolean): void {
    const socket = this.#socket;
    socket.on("error", (error) => {
      this.#error ??= error;
    });
    socket.once("close", () => this.#end());
    socket.once("end", () => {
      this.#error ??= reset();
      // Or what is still to be sent is waited for, which a server that has left may never take.
      socket.destroy();
    });
    if (!receivesInPlace) socket.on("data", (chunk: Buffer) => this.#receive(chunk, chunk.length));
  }

  #connected(signal: AbortSignal | undefined): Promise<void> {
    const socket = this.#socket;
    if (!socket.connecting) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        socket.destroy();
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
      socket.once("connect", () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      });
      socket.once("close", () => {
        signal?.removeEventListener("abort", abort);
        reject(this.#error ?? reset());
      });
    });
  }

  /** The same stream, encrypted from here on; this channel is then no longer to be used. */
  async encrypt(options: ConnectionOptions, signal: AbortSignal | undefined): Promise<Channel> {
    const plain = this.#socket;
    plain.removeAllListeners();
    plain.on("error", () => {}); // the encrypted one tells
    const channel = new Channel(() => connectTls({ ...options, socket: plain }), false);
    const secure = channel.#socket;
    await new Promise<void>((resolve, reject) => {
      const abort = (): void => {
        secure.destroy();
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
      secure.once("secureConnect", () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      });
      secure.once("close", () => {
        signal?.removeEventListener("abort", abort);
        const cause = channel.#error ?? reset();
        const { code = "ECONNRESET" } = cause as { code?: string };
        reject(new ConnectionError(code, `TLS: ${cause.message}`, { cause }));
      });
    });
    return channel;
  }

  /** What arrives from now on goes there. */
  set receiver(receiver: Receiver) {
    this.#receiver = receiver;
    if (this.#isOver) this.#end();
  }

  /** Whether all that was sent is out of this process's hands. */
  get isDrained(): boolean {
    return this.#socket.writableLength === 0;
  }

  send(parts: readonly Uint8Array[]): void {
    const socket = this.#socket;
    if (parts.length === 1) {
      socket.write(parts[0] as Uint8Array);
      return;
    }
    socket.cork();
    for (const part of parts) socket.write(part);
    socket.uncork();
  }

  /** No more is sent; what arrives is still received. */
  finish(): void {
    this.#socket.end();
  }

  /** At once. `error`: what the receiver is told. */
  destroy(error?: Error): void {
    if (error !== undefined) this.#error ??= error;
    this.#socket.destroy();
  }

  #place(): Uint8Array {
    return this.#receiver?.place?.() ?? this.#buffer;
  }

  #receive(buffer: Buffer, lengthBytes: number): void {
    if (this.#socket.destroyed) return;
    try {
      this.#receiver?.receive(buffer, lengthBytes);
    } catch (error) {
      this.#error = error as Error;
      this.#socket.destroy();
    }
  }

  #end(): void {
    this.#isOver = true;
    const receiver = this.#receiver;
    this.#receiver = undefined;
    receiver?.ended(this.#error ?? reset());
  }
}
