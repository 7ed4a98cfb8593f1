// What a disk may hold, sector by sector, when some of what has been written to it has failed.

export const SECTOR_BYTES = 512;

export class DiskModel {
  /** Of each sector, the bytes of which it may be full. */
  readonly #sectors: Set<number>[];

  /** Full of zeroes. */
  constructor(sizeBytes: number) {
    this.#sectors = Array.from({ length: sizeBytes / SECTOR_BYTES }, () => new Set([0]));
  }

  /** Offsets and lengths in sectors. */
  wrote(offset: number, length: number, byte: number): void {
    for (let i = offset; i < offset + length; i++) this.#sectors[i] = new Set([byte]);
  }

  /** Perhaps some of it, at once or at any time. */
  mayHaveWritten(offset: number, length: number, byte: number): void {
    for (let i = offset; i < offset + length; i++) this.#sectors[i]?.add(byte);
  }

  /** All of it has been read. */
  found(data: Buffer): void {
    for (const [i] of this.#sectors.entries())
      this.#sectors[i] = new Set([data[i * SECTOR_BYTES] as number]);
  }

  mayBe(sector: number, byte: number): boolean {
    return this.#sectors[sector]?.has(byte) ?? false;
  }

  /** Throws unless the data may be what is there from the offset on. */
  checkRead(offset: number, data: Buffer): void {
    for (let at = 0; at < data.length; at += SECTOR_BYTES) {
      const sector = offset + at / SECTOR_BYTES;
      const [byte = -1] = data.subarray(at, at + 1);
      const isFull = data.subarray(at, at + SECTOR_BYTES).every((one) => one === byte);
      if (isFull && this.mayBe(sector, byte)) continue;
      const may = [...(this.#sectors[sector] ?? [])].join(" or ");
      throw new Error(
        `sector ${sector} is ${isFull ? "full" : "not full"} of ${byte}, not of ${may}`,
      );
    }
  }
}
