// A bar on standard error: how far a copy is, and how fast.

const WIDTH = 40;
const EVERY_MS = 100;

export class Progress {
  readonly #totalBytes: number | undefined;
  readonly #isShown: boolean;
  readonly #startMs = performance.now();
  #doneBytes = 0;
  #shownMs = Number.NEGATIVE_INFINITY;

  /** `totalBytes`: undefined where nobody knows. */
  constructor(totalBytes: number | undefined, isShown: boolean) {
    this.#totalBytes = totalBytes;
    this.#isShown = isShown;
  }

  add(bytes: number): void {
    this.#doneBytes += bytes;
    if (!this.#isShown || performance.now() - this.#shownMs < EVERY_MS) return;
    this.#shownMs = performance.now();
    process.stderr.write(`\r${this.#line()}`);
  }

  finish(): void {
    if (this.#isShown) process.stderr.write(`\r${this.#line()}\n`);
  }

  #line(): string {
    const done = this.#doneBytes / 2 ** 20;
    const seconds = Math.max((performance.now() - this.#startMs) / 1000, 0.001);
    const rate = `${done.toFixed(0)} MiB, ${(done / seconds).toFixed(0)} MiB/s`;
    if (this.#totalBytes === undefined) return rate.padEnd(WIDTH);
    const part = this.#totalBytes === 0 ? 1 : Math.min(this.#doneBytes / this.#totalBytes, 1);
    const bar = "#".repeat(Math.floor(part * WIDTH)).padEnd(WIDTH);
    return `[${bar}] ${(part * 100).toFixed(0).padStart(3)} %  ${rate}`.padEnd(80);
  }
}
