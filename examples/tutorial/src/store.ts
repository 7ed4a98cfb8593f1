// Blocks in an SQLite database, each content once. Everything is synchronous: no call runs in the middle
// of another.

import { createHash } from "node:crypto";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { failure } from "asyncnbd";

export const BLOCK_BYTES = 4096;
const ZEROES = Buffer.alloc(BLOCK_BYTES);
/** Blocks in memory, which are lost with the process: 4 MiB. */
const MAX_WRITTEN = 1024;
const SQLITE_FULL = 13;

const SCHEMA = `
  PRAGMA busy_timeout = 2000;
  PRAGMA locking_mode = EXCLUSIVE;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS content (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    data BLOB NOT NULL,
    uses INTEGER NOT NULL DEFAULT 0
  );
  CREATE TABLE IF NOT EXISTS block (number INTEGER PRIMARY KEY, content INTEGER NOT NULL);
  CREATE TRIGGER IF NOT EXISTS used AFTER INSERT ON block BEGIN
    UPDATE content SET uses = uses + 1 WHERE id = NEW.content;
  END;
  CREATE TRIGGER IF NOT EXISTS replaced AFTER UPDATE ON block BEGIN
    UPDATE content SET uses = uses + 1 WHERE id = NEW.content;
    UPDATE content SET uses = uses - 1 WHERE id = OLD.content;
    DELETE FROM content WHERE id = OLD.content AND uses = 0;
  END;
  CREATE TRIGGER IF NOT EXISTS released AFTER DELETE ON block BEGIN
    UPDATE content SET uses = uses - 1 WHERE id = OLD.content;
    DELETE FROM content WHERE id = OLD.content AND uses = 0;
  END;`;

/** Clients can handle a full disk; anything else is an I/O error. */
function asFailure(error: unknown): Error {
  const { errcode, message } = error as { errcode?: number; message: string };
  const isFull = errcode !== undefined && (errcode & 0xff) === SQLITE_FULL;
  return failure(isFull ? "ENOSPC" : "EIO", message);
}

const isZero = (data: Uint8Array): boolean => ZEROES.equals(data);

export class Store {
  readonly #database: DatabaseSync;
  readonly #range: StatementSync;
  readonly #release: StatementSync;
  readonly #keep: StatementSync;
  readonly #use: StatementSync;
  /** Written since the last transaction, by number. */
  readonly #written = new Map<number, Buffer>();

  /** `limitBytes`: how large the file may become. Throws if it is another database, or in use. */
  constructor(path: string, limitBytes: number) {
    this.#database = new DatabaseSync(path);
    this.#database.exec(SCHEMA);
    this.#database.exec(`PRAGMA max_page_count = ${Math.ceil(limitBytes / 4096)}`);
    const prepare = (sql: string) => this.#database.prepare(sql);
    const between = "number >= ? AND number < ?";
    this.#range = prepare(
      `SELECT number, data FROM block JOIN content ON id = content WHERE ${between}`,
    );
    this.#release = prepare(`DELETE FROM block WHERE ${between}`);
    this.#keep = prepare("INSERT INTO content (hash, data) VALUES (?, ?) ON CONFLICT DO NOTHING");
    this.#use = prepare(
      `INSERT INTO block (number, content) SELECT ?, id FROM content WHERE hash = ?
       ON CONFLICT (number) DO UPDATE SET content = excluded.content`,
    );
  }

  /** The blocks of a range that are not holes. */
  blocks(first: number, end: number): Map<number, Uint8Array> {
    const rows = this.#range.all(first, end) as { number: number; data: Uint8Array }[];
    const found = new Map(rows.map(({ number, data }) => [number, data]));
    for (const [number, data] of this.#written)
      if (number >= first && number < end) found.set(number, data);
    return found;
  }

  /** The numbers of the blocks that are not holes, in ascending order. */
  numbers(first: number, end: number): number[] {
    const found = [...this.blocks(first, end)].filter(([, data]) => !isZero(data));
    return found.map(([number]) => number).sort((a, b) => a - b);
  }

  /** Keeps the block in memory; makes room first if there is none. */
  put(number: number, data: Buffer): void {
    if (this.#written.size >= MAX_WRITTEN) this.commit();
    this.#written.set(number, data);
  }

  /** Puts all written blocks on stable storage, or, if it throws, none of them. */
  commit(): void {
    if (this.#written.size === 0) return;
    this.#transaction(() => {
      for (const [number, data] of this.#written) this.#store(number, data);
    });
    this.#written.clear();
  }

  #store(number: number, data: Buffer): void {
    if (isZero(data)) {
      this.#release.run(number, number + 1);
      return;
    }
    const hash = createHash("sha256").update(data).digest();
    this.#keep.run(hash, data);
    this.#use.run(number, hash);
  }

  /** Makes holes, immediately: that makes room in a full database. */
  release(first: number, end: number): void {
    this.#transaction(() => this.#release.run(first, end));
    for (const number of this.#written.keys())
      if (number >= first && number < end) this.#written.delete(number);
  }

  #transaction(work: () => void): void {
    try {
      this.#database.exec("BEGIN");
      work();
      this.#database.exec("COMMIT");
    } catch (error) {
      // After some errors, such as a full disk, SQLite has already rolled back.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw asFailure(error);
    }
  }

  /** How many blocks are stored, and how many of them are different. */
  counts(): { blocks: number; different: number } {
    const count = (table: string): number =>
      this.#database.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.n as number;
    return { blocks: count("block"), different: count("content") };
  }

  close(): void {
    try {
      this.commit();
    } finally {
      this.#database.close();
    }
  }
}
