// Ranges as blocks, and who may change a block now.

/** The part of a range that lies in one block. Bytes. */
export interface Piece {
  readonly block: number;
  /** From the start of the block. */
  readonly start: number;
  readonly count: number;
  /** From the start of the range. */
  readonly at: number;
  /** All of the block, which is shorter at the end of a disk. */
  readonly isWhole: boolean;
}

/** The blocks of a disk of `sizeBytes`, and the pieces that a range consists of. */
export class Blocks {
  readonly blockBytes: number;
  readonly sizeBytes: number;

  constructor(blockBytes: number, sizeBytes: number) {
    this.blockBytes = blockBytes;
    this.sizeBytes = sizeBytes;
  }

  lengthOf(block: number): number {
    return Math.min(this.blockBytes, this.sizeBytes - block * this.blockBytes);
  }

  *pieces(offset: number, count: number): Generator<Piece> {
    for (let at = 0; at < count; ) {
      const block = Math.floor((offset + at) / this.blockBytes);
      const start = offset + at - block * this.blockBytes;
      const bytes = Math.min(this.lengthOf(block) - start, count - at);
      yield { block, start, count: bytes, at, isWhole: bytes === this.lengthOf(block) };
      at += bytes;
    }
  }
}

/** One at a time for each block, in the order of their coming. */
export class BlockLocks {
  readonly #last = new Map<number, Promise<unknown>>();

  async run<T>(block: number, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(block);
    const turn = before === undefined ? work() : before.then(work);
    const settled = turn.catch(() => {});
    this.#last.set(block, settled);
    try {
      return await turn;
    } finally {
      if (this.#last.get(block) === settled) this.#last.delete(block);
    }
  }

  /** The same for several blocks at once. */
  async runAll<T>(blocks: readonly number[], work: () => Promise<T>): Promise<T> {
    let release = (): void => {};
    const done = new Promise<void>((resolve) => {
      release = resolve;
    });
    try {
      const before = blocks.map((block) => this.#last.get(block));
      for (const block of blocks) this.#last.set(block, done); // nobody waits for who comes later
      await Promise.all(before);
      return await work();
    } finally {
      release();
      for (const block of blocks) if (this.#last.get(block) === done) this.#last.delete(block);
    }
  }
}

/** So many pieces of one request are worked on at once. */
const PIECES_AT_ONCE = 16;

/** Does `work` for each piece, some at once. Rejects with the first failure, when all have ended. */
export async function forEachPiece(
  pieces: Iterable<Piece>,
  work: (piece: Piece) => Promise<void>,
): Promise<void> {
  const queue = pieces[Symbol.iterator]();
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (let next = queue.next(); !next.done && failures.length === 0; next = queue.next())
      await work(next.value).catch((error: unknown) => failures.push(error));
  };
  await Promise.all(Array.from({ length: PIECES_AT_ONCE }, worker));
  if (failures.length > 0) throw failures[0];
}
