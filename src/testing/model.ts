// A disk in memory as NBD defines one: of each byte, which requests it may come from, now and after a
// power cut.

import { Difference } from "./model-error.js";
import type { Changing, Numbered } from "./requests.js";

/** A part of the disk that requests keep to. */
export interface Window {
  /** In bytes. */
  readonly start: number;
  readonly length: number;
}

/** What was there before the first request, or after a restart. */
const FOUND = -1;

/** Never 0, and different for other requests, and for other places of one. */
export function byteOf(request: number, position: number): number {
  const low = position % 2 ** 32;
  const high = Math.floor(position / 2 ** 32);
  let mixed = Math.imul(low ^ Math.imul(request + 1, 0x9e3779b1) ^ high, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return 1 + (((mixed ^ (mixed >>> 16)) >>> 0) % 255);
}

export function contentOf({ index, request }: Numbered<Changing>): Buffer {
  const content = Buffer.alloc(request.length);
  for (let i = 0; i < content.length; i++) content[i] = byteOf(index, request.offset + i);
  return content;
}

/** Sets of requests by small numbers, of which each byte has one. */
class Sets {
  readonly #sets: (readonly number[])[] = [[]];
  readonly #numbers = new Map<string, number>([["", 0]]);

  of(number: number): readonly number[] {
    return this.#sets[number] as readonly number[];
  }

  number(set: readonly number[]): number {
    const key = set.join();
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    this.#numbers.set(key, this.#sets.length);
    return this.#sets.push(set) - 1;
  }

  /** With a request more. */
  with(number: number, request: number): number {
    const set = this.of(number);
    return set.includes(request) ? number : this.number([...set, request]);
  }
}

const NONE = 0; // of Sets: the empty one

interface Contents {
  readonly window: Window;
  found: Buffer;
  readonly live: Int32Array;
  readonly durable: Int32Array;
}

const hex = (byte: number): string => `0x${byte.toString(16).padStart(2, "0")}`;

export class Model {
  readonly #sets = new Sets();
  readonly #contents: readonly Contents[];
  readonly #changes = new Map<number, Changing>();

  /** Of what is there. */
  constructor(windows: readonly Window[], found: readonly Buffer[]) {
    const first = this.#sets.number([FOUND]);
    this.#contents = windows.map((window, i) => ({
      window,
      found: found[i] as Buffer,
      live: new Int32Array(window.length).fill(first),
      durable: new Int32Array(window.length).fill(first),
    }));
  }

  /** From now on, each byte may be theirs. */
  begin(sent: readonly Numbered<Changing>[]): void {
    for (const { index, request } of sent) {
      this.#changes.set(index, request);
      const { part } = this.#at(request.offset, request.length);
      for (const kept of ["live", "durable"] as const) this.#add(part(kept), index);
    }
  }

  /** A flush has succeeded: what had been answered when it was sent is durable. Before `end`. */
  flushed(): void {
    for (const { live, durable } of this.#contents) durable.set(live);
  }

  /** Of those sent together, some have succeeded: their bytes are theirs, or of others among them. */
  end(sent: readonly Numbered<Changing>[], succeeded: ReadonlySet<number>): void {
    const done = sent.filter(({ index }) => succeeded.has(index));
    const clear = (kept: "live" | "durable", { request }: Numbered<Changing>): void => {
      this.#at(request.offset, request.length).part(kept).fill(NONE);
    };
    for (const one of done) {
      clear("live", one);
      if (one.request.fua) clear("durable", one);
    }
    for (const { index, request } of sent)
      for (const kept of ["live", "durable"] as const)
        this.#add(this.#at(request.offset, request.length).part(kept), index);
  }

  /** Throws unless the bytes may be what is read there. `what`: the request, in words. */
  checkRead(what: string, offset: number, data: Buffer): void {
    this.#check(what, offset, data, "live", "");
  }

  /** Throws unless the range may read as zeroes. */
  checkZero(what: string, offset: number, length: number): void {
    const said = "is reported as zero but is not";
    const { contents, begin } = this.#at(offset, length);
    for (let i = begin; i < begin + length; i++)
      if (!this.#may(contents, "live", i, 0))
        throw this.#difference(what, contents, "live", i, said, "");
  }

  /** After a power cut, all windows are as they are now. Throws if something flushed is lost. */
  restarted(what: string, found: readonly Buffer[]): void {
    const set = this.#sets.number([FOUND]);
    for (const [i, data] of found.entries()) {
      const contents = this.#contents[i] as Contents;
      this.#check(what, contents.window.start, data, "durable", ", and durable");
      contents.found = data;
      contents.live.fill(set);
      contents.durable.fill(set);
    }
  }

  #add(sets: Int32Array, request: number): void {
    let last = -1; // neighbours are mostly alike
    let next = -1;
    for (let i = 0; i < sets.length; i++) {
      const set = sets[i] as number;
      if (set !== last) next = this.#sets.with(set, request);
      last = set;
      sets[i] = next;
    }
  }

  #at(offset: number, length: number) {
    const contents = this.#contents.find(
      ({ window }) => offset >= window.start && offset + length <= window.start + window.length,
    ) as Contents; // requests keep to windows
    const begin = offset - contents.window.start;
    const part = (kept: "live" | "durable"): Int32Array =>
      contents[kept].subarray(begin, begin + length);
    return { contents, begin, part };
  }

  #check(what: string, offset: number, data: Buffer, kept: "live" | "durable", more: string): void {
    const { contents, begin } = this.#at(offset, data.length);
    for (let i = 0; i < data.length; i++) {
      const byte = data[i] as number;
      if (this.#may(contents, kept, begin + i, byte)) continue;
      throw this.#difference(what, contents, kept, begin + i, `is ${hex(byte)}, expected`, more);
    }
  }

  #may(contents: Contents, kept: "live" | "durable", i: number, byte: number): boolean {
    for (const request of this.#sets.of(contents[kept][i] as number)) {
      const value = this.#value(contents, request, i);
      if (value === byte || value === undefined) return true;
    }
    return false;
  }

  /** undefined: anything, as where it was trimmed. */
  #value({ window, found }: Contents, request: number, i: number): number | undefined {
    if (request === FOUND) return found[i];
    const kind = this.#changes.get(request)?.kind;
    if (kind === "trim") return undefined;
    return kind === "zero" ? 0 : byteOf(request, window.start + i);
  }

  #difference(
    what: string,
    contents: Contents,
    kept: "live" | "durable",
    i: number,
    is: string,
    more: string,
  ): Difference {
    const expected = this.#sets.of(contents[kept][i] as number).map((request) => {
      const value = hex(this.#value(contents, request, i) as number);
      if (request === FOUND) return `${value} (as it was before)`;
      const verb = this.#changes.get(request)?.kind === "zero" ? "zeroed" : "written";
      return `${value} (${verb} by request ${request + 1}${more})`;
    });
    const position = contents.window.start + i;
    return new Difference(`${what}: byte ${position} ${is} ${expected.join(" or ")}`);
  }
}
