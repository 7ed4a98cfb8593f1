// What a disk holds that is written to without overlaps: what is read now, and what is there after
// its server has been killed.

import { DiskModel } from "./disk-model.js";

/** A range full of one byte, in sectors. */
export interface Written {
  readonly offset: number;
  readonly length: number;
  readonly byte: number;
}

export class FlushedModel {
  readonly #sizeBytes: number;
  #live: DiskModel;
  #durable: DiskModel;
  /** Since the last flush, in the order in which they were sent. */
  #sent: Written[] = [];
  readonly #acknowledged = new Set<Written>();

  /** Full of zeroes. */
  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
    this.#live = new DiskModel(sizeBytes);
    this.#durable = new DiskModel(sizeBytes);
  }

  /** From now on it may be there at any time. */
  sent(written: Written): void {
    const { offset, length, byte } = written;
    this.#live.mayHaveWritten(offset, length, byte);
    this.#durable.mayHaveWritten(offset, length, byte);
    this.#sent.push(written);
  }

  /** `isDurable`: as FUA says. */
  acknowledged(written: Written, isDurable: boolean): void {
    const { offset, length, byte } = written;
    this.#live.wrote(offset, length, byte);
    this.#acknowledged.add(written);
    if (isDurable) this.#durable.wrote(offset, length, byte);
  }

  /** What a flush is for that is sent now. */
  get unflushed(): ReadonlySet<Written> {
    return new Set(this.#acknowledged);
  }

  /** The flush that was for these has succeeded. */
  hasFlushed(flushed: ReadonlySet<Written>): void {
    for (const written of this.#sent) {
      const { offset, length, byte } = written;
      if (flushed.has(written)) this.#durable.wrote(offset, length, byte);
      else this.#durable.mayHaveWritten(offset, length, byte);
    }
    const last = this.#sent.findLastIndex((one) => flushed.has(one));
    for (const one of this.#sent.splice(0, last + 1)) this.#acknowledged.delete(one);
  }

  /** No later flush is for what has been written. */
  forgetUnflushed(): void {
    this.#acknowledged.clear();
  }

  checkRead(offset: number, data: Buffer): void {
    this.#live.checkRead(offset, data);
  }

  /** All of the disk, as a new server shows it: nothing that was flushed is lost. */
  checkAfterKill(data: Buffer): void {
    this.#durable.checkRead(0, data);
    this.#live = new DiskModel(this.#sizeBytes);
    this.#durable = new DiskModel(this.#sizeBytes);
    this.#sent = [];
    this.#acknowledged.clear();
    for (const model of [this.#live, this.#durable]) model.found(data);
  }
}
