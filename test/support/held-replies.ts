// Replies that a test holds back, for wrong-server.ts.

import { eventually } from "./server.js";
import { right, type WireRequest, type Wrongs } from "./wrong-server.js";

/** Holds replies until they are released. */
export class Held {
  readonly requests: WireRequest[] = [];
  release: () => void = () => {};
  readonly reply: NonNullable<Wrongs["reply"]> = (request, socket) => {
    this.requests.push(request);
    const before = this.release;
    this.release = () => {
      this.release = () => {};
      before();
      socket.write(right(request, "extended"));
    };
    return undefined;
  };

  /** Resolves when so many requests have arrived. */
  async arrived(count: number): Promise<void> {
    await eventually(`${count} requests`, () => this.requests.length >= count || undefined);
  }
}

/** The error of what fails; undefined: it succeeds. */
export const settled = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );
