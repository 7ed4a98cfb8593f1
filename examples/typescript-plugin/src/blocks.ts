// Splits requests at the boundaries of blocks.

export interface Part {
  /** The block's number, from 0. */
  readonly number: number;
  /** Where in the block the part begins, in bytes. */
  readonly start: number;
  /** The part of the request's buffer. */
  readonly part: Buffer;
}

export function* eachBlock(buf: Buffer, offset: number, blockBytes: number): Generator<Part> {
  for (let done = 0; done < buf.length; ) {
    const start = (offset + done) % blockBytes;
    const end = Math.min(buf.length, done + blockBytes - start);
    const number = (offset + done - start) / blockBytes;
    yield { number, start, part: buf.subarray(done, end) };
    done = end;
  }
}
