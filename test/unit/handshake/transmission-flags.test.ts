import { describe, expect, test } from "vitest";
import type { Capabilities } from "../../../src/addon/types.js";
import { transmissionFlags } from "../../../src/handshake/transmission-flags.js";
import { EXPORT_FLAG } from "../../support/protocol.js";

const NOTHING: Capabilities = {
  sizeBytes: 0n,
  canWrite: false,
  canFlush: false,
  isRotational: false,
  canTrim: false,
  canZero: false,
  canFastZero: false,
  canFua: false,
  canMultiConn: false,
  canCache: false,
  canExtents: false,
};

const { HAS_FLAGS, READ_ONLY } = EXPORT_FLAG;

describe("transmission flags", () => {
  test("of an export without capabilities say that it is read-only", () => {
    expect(transmissionFlags(NOTHING)).toBe(HAS_FLAGS | READ_ONLY);
  });

  test.each<[Partial<Capabilities>, number]>([
    [{ canFlush: true }, 1 << 2],
    [{ isRotational: true }, 1 << 4],
    [{ canMultiConn: true }, 1 << 8],
    [{ canCache: true }, 1 << 10],
  ])("offer %j for a read-only export, too", (capability, flag) => {
    expect(transmissionFlags({ ...NOTHING, ...capability })).toBe(HAS_FLAGS | READ_ONLY | flag);
  });

  test.each<[Partial<Capabilities>, number]>([
    [{ canFua: true }, 1 << 3],
    [{ canTrim: true }, 1 << 5],
    [{ canZero: true }, 1 << 6],
    [{ canZero: true, canFastZero: true }, (1 << 6) | (1 << 11)],
    [{ canFastZero: true }, 0],
  ])("offer %j for a writable export only", (capability, flags) => {
    expect(transmissionFlags({ ...NOTHING, canWrite: true, ...capability })).toBe(
      HAS_FLAGS | flags,
    );
    expect(transmissionFlags({ ...NOTHING, ...capability })).toBe(HAS_FLAGS | READ_ONLY);
  });
});
