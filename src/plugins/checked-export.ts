// Checks what middleware returns and what it passes on: its mistake refuses one client, or fails one
// request.

import { AsyncnbdError } from "../errors.js";
import { failure } from "./script/errno.js";
import { type ExportFacts, OPERATIONS, type OpenExport } from "./script/layer.js";
import type { BlockSize, Support } from "./script/requests.js";

const SUPPORTS: readonly unknown[] = ["none", "emulate", "native"] satisfies Support[];
const YES_OR_NO = [
  "canWrite",
  "canFlush",
  "canTrim",
  "canFastZero",
  "canExtents",
  "canMultiConn",
  "isRotational",
] as const satisfies readonly (keyof ExportFacts)[];

const isPowerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value));

/** The rules of "Block size constraints". */
function areBlockSizes({ minimum, preferred, maximum }: BlockSize): boolean {
  return (
    isPowerOfTwo(minimum) &&
    minimum <= 65536 &&
    isPowerOfTwo(preferred) &&
    preferred >= Math.max(512, minimum) &&
    preferred <= Math.min(2 ** 25, maximum) &&
    (maximum === 2 ** 32 - 1 || (Number.isInteger(maximum / minimum) && maximum < 2 ** 32))
  );
}

/** Throws unless they are what an export can be. `what`: whose they are. */
export function checkFacts(what: string, facts: ExportFacts): void {
  const fail = (words: string): never => {
    throw new AsyncnbdError("FILTER_INVALID", `${what}: ${words}`);
  };
  if (typeof facts !== "object" || facts === null) fail("the export has no facts");
  const { sizeBytes, blockSize } = facts;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0)
    fail(`sizeBytes is ${sizeBytes}: a size is a whole number of bytes up to 2^53-1`);
  for (const name of YES_OR_NO)
    if (typeof facts[name] !== "boolean") fail(`${name} is ${facts[name]}: use true or false`);
  for (const name of ["zero", "fua", "cache"] as const)
    if (!SUPPORTS.includes(facts[name]))
      fail(`${name} is ${facts[name]}: use "none", "emulate" or "native"`);
  if (facts.fua === "emulate" && !facts.canFlush)
    fail('fua is "emulate", which is not possible without flush');
  if (typeof facts.description !== "string") fail("description is not a string");
  if (!Array.isArray(facts.contexts)) fail("contexts is not a list of names");
  if (blockSize !== undefined && !areBlockSizes(blockSize)) {
    const { minimum, preferred, maximum } = blockSize;
    fail(`blockSize returned ${minimum}, ${preferred}, ${maximum}`);
  }
}

/** What middleware of this name has returned, with frozen facts. Throws if it is no export. */
export function checkedExport(name: string, opened: OpenExport): OpenExport {
  const what = `middleware ${name}`;
  if (typeof opened !== "object" || opened === null)
    throw new AsyncnbdError("FILTER_INVALID", `${what}: open returned no export`);
  for (const operation of OPERATIONS)
    if (typeof opened[operation] !== "function")
      throw new AsyncnbdError(
        "FILTER_INVALID",
        `${what}: open returned an export without ${operation}`,
      );
  checkFacts(what, opened.facts);
  return { ...boundTo(opened), facts: Object.freeze({ ...opened.facts }) };
}

/** The operations as its own properties, wherever it has them. */
const boundTo = (opened: OpenExport): OpenExport => ({
  facts: opened.facts,
  read: opened.read.bind(opened),
  write: opened.write.bind(opened),
  flush: opened.flush.bind(opened),
  trim: opened.trim.bind(opened),
  zero: opened.zero.bind(opened),
  cache: opened.cache.bind(opened),
  extents: opened.extents.bind(opened),
  status: opened.status.bind(opened),
  close: opened.close.bind(opened),
});

/** The export as middleware of this name may use it: what lies outside of it is refused. */
export function guardedExport(name: string, behind: OpenExport): OpenExport {
  const { facts } = behind;
  const refuse = (what: string): never => {
    throw failure("EINVAL", `middleware ${name}: ${what}`);
  };
  const check = (can: boolean, what: string, count: number, offset: number): void => {
    if (!can) refuse(`the export behind it has no ${what}`);
    if (!(Number.isInteger(offset) && offset >= 0 && Number.isInteger(count) && count >= 0))
      refuse(`${what} at offset ${offset}, of ${count} bytes`);
    if (!(offset + count <= facts.sizeBytes))
      refuse(`${what} at offset ${offset}, of ${count} bytes, is outside the export`);
  };
  const checkData = (can: boolean, what: string, buf: Buffer, offset: number): void => {
    if (!(buf instanceof Uint8Array)) refuse(`${what} without a buffer`);
    check(can, what, buf.length, offset);
  };
  return {
    facts,
    read(buf, offset, request) {
      checkData(true, "read", buf, offset);
      return behind.read(buf, offset, request);
    },
    write(buf, offset, request) {
      checkData(facts.canWrite, "write", buf, offset);
      return behind.write(buf, offset, request);
    },
    flush(request) {
      check(facts.canFlush, "flush", 0, 0);
      return behind.flush(request);
    },
    trim(count, offset, request) {
      check(facts.canTrim, "trim", count, offset);
      return behind.trim(count, offset, request);
    },
    zero(count, offset, request) {
      check(facts.zero !== "none", "zero", count, offset);
      return behind.zero(count, offset, request);
    },
    cache(count, offset, request) {
      check(facts.cache !== "none", "cache", count, offset);
      return behind.cache(count, offset, request);
    },
    extents(count, offset, request) {
      check(facts.canExtents, "extents", count, offset);
      return behind.extents(count, offset, request);
    },
    status(context, count, offset, request) {
      check(facts.contexts.includes(context), `context ${context}`, count, offset);
      return behind.status(context, count, offset, request);
    },
    close: () => behind.close(),
  };
}
