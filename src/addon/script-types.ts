// What plugins in JavaScript need of native code: their requests, and their turns.

/** Requests to plugins in JavaScript; src/plugins/script/bridge.ts is its other half. */
export interface NativeScriptBridge {
  /**
   * Takes completions out of the batch and puts `most` submissions into it, or fewer: returns how
   * many. If there are none, onWake is called when one has come, unless `most` is 0.
   */
  exchange(completions: number, most: number): number;
  /** Before the completion of an operation with an error: words for the client. */
  explain(operation: number, text: string, offset: number | undefined): void;
  /** The numbers of the contexts that a block status asks about. */
  question(operation: number): number[];
  /**
   * Before its success: for each context a count, and as many extents of three numbers, the length
   * and the lower and the upper half of the flags. False: that makes no sense.
   */
  answer(operation: number, numbers: Float64Array): boolean;
  /** From time to time: gives memory back to the system. False: there is none left. */
  trim(): boolean;
  /**
   * Before the success of a read that may have holes: `extents` are lengths and flags by turns.
   * Returns offsets and lengths of what is data; undefined if that is all.
   */
  sparse(operation: number, extents: Float64Array): Float64Array | undefined;
  /** Submissions and completions. */
  batch(): [ArrayBuffer, ArrayBuffer];
  /** The memory around a slot. To be asked for once. */
  slab(slot: number): { buffer: ArrayBuffer; firstSlot: number; slotBytes: number; slots: number };
  /** After the last connection: none is led by this thread any more. More than once is once. */
  endLoop(): void;
}

/** A queue for turns, one at a time, at a plugin in JavaScript: of its requests, and of NativeTurn. */
export type NativeTurns = { readonly [turns]: true };
declare const turns: unique symbol;

/** A turn that JavaScript asks for itself. */
export interface NativeTurn {
  /** Resolves once it has come; with false, if it has ended before. */
  begun(): Promise<boolean>;
  /** Of a turn, or of waiting for one. */
  end(): void;
  /** Whether the process stays alive while it waits, as it does at first. */
  setRef(isRef: boolean): void;
}
