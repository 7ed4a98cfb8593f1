// Middleware and a plugin that do all they may do, at random, and tell of what is done to them that
// must not be. What they fail is called "injected N", and says where.

/** The same numbers for the same seed, in both languages of modules. */
const RANDOM = (seed: number): string => `
  let state = ${seed};
  /** From 0 to n - 1. */
  const random = (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % n;
  };
  let injected = 0;
  const injection = (offset) =>
    Object.assign(failure(random(2) ? "ENOSPC" : "EIO", "injected " + ++injected), { offset });
  const later = () => new Promise((resolve) => (random(2) ? setImmediate : queueMicrotask)(resolve));
`;

/** What begins a line of complaint. */
export const COMPLAINT = "hostile: ";

export const hostileMiddleware = (seed: number): string => `
  import { failure } from "asyncnbd";
  import { defineMiddleware } from "asyncnbd/middleware";
  ${RANDOM(seed)}
  const complain = (what) => console.error(${JSON.stringify(COMPLAINT)} + what);
  const late = async (go) => {
    await later();
    return go();
  };
  const fail = async (go, offset) => {
    await go();
    throw injection(offset);
  };
  /** Answers in some way, what has been done being right or failed. */
  const answer = (go, offset) => {
    switch (random(60)) {
      case 0: throw injection(offset);
      case 1: return Promise.reject(injection(offset));
      case 2: return late(() => { throw injection(offset); });
      case 3: return fail(go, offset);
      case 4: case 5: return { then: (resolve, reject) => late(go).then(resolve, reject) };
      case 6: case 7: return late(go).then(go);
      case 8: case 9: case 10: case 11: case 12: case 13: case 14: case 15: return late(go);
      default: return go();
    }
  };
  const read = async (disk, buf, offset, request) => {
    const own = Buffer.alloc(buf.length);
    buf.fill(0xee); // it is ours until we have answered
    await disk.read(own, offset, request);
    await later();
    own.copy(buf);
  };
  const write = async (disk, buf, offset, request) => {
    const before = Buffer.from(buf);
    const half = (buf.length >> 10) * 512;
    if (half > 0) await disk.write(Buffer.from(before.subarray(0, half)), offset, request);
    await later();
    await disk.write(Buffer.from(before.subarray(half)), offset + half, request);
    if (!before.equals(buf)) complain("a lent buffer has changed");
  };
  let first;
  export default defineMiddleware({
    name: "hostile",
    async open(next, info) {
      const disk = await next(info);
      const shared = await info.shared(() => ({}));
      first ??= shared;
      if (first !== shared) complain("clients do not share what is theirs");
      if (!Object.isFrozen(disk.facts)) complain("facts are not frozen");
      let inFlight = 0;
      const ended = () => { inFlight--; };
      /** Counts what has not been answered. */
      const counted = (go) => {
        inFlight++;
        let result;
        try {
          result = go();
        } catch (error) {
          inFlight--;
          throw error;
        }
        if (typeof result?.then !== "function") {
          inFlight--;
          return result;
        }
        const promise = Promise.resolve(result);
        promise.then(ended, ended);
        return promise;
      };
      const look = (can, what, count, offset, request) => {
        if (!can) complain(what + " though there is none");
        if (!(count > 0 && offset >= 0 && offset + count <= disk.facts.sizeBytes))
          complain(what + " of " + count + " at " + offset);
        if (!(request.signal instanceof AbortSignal)) complain(what + " without a signal");
        if (request.fua && disk.facts.fua !== "native") complain(what + " with FUA");
      };
      const { facts } = disk;
      return {
        ...disk,
        read(buf, offset, request) {
          look(true, "read", buf.length, offset, request);
          const go = random(3) ? () => disk.read(buf, offset, request)
            : () => read(disk, buf, offset, request);
          return counted(() => answer(go, offset));
        },
        write(buf, offset, request) {
          look(facts.canWrite, "write", buf.length, offset, request);
          const go = random(3) ? () => disk.write(buf, offset, request)
            : () => write(disk, buf, offset, request);
          return counted(() => answer(go, offset));
        },
        flush(request) {
          look(facts.canFlush, "flush", 1, 0, request);
          return counted(() => answer(() => disk.flush(request)));
        },
        trim(count, offset, request) {
          look(facts.canTrim, "trim", count, offset, request);
          return counted(() => answer(() => disk.trim(count, offset, request), offset));
        },
        zero(count, offset, request) {
          look(facts.zero === "native", "zero", count, offset, request);
          return counted(() => answer(() => disk.zero(count, offset, request), offset));
        },
        cache(count, offset, request) {
          look(facts.cache === "native", "cache", count, offset, request);
          return counted(() => answer(() => disk.cache(count, offset, request), offset));
        },
        extents(count, offset, request) {
          look(facts.canExtents, "extents", count, offset, request);
          return counted(() => answer(() => disk.extents(count, offset, request), offset));
        },
        async close() {
          if (inFlight > 0) complain("close with " + inFlight + " requests in progress");
          await later();
          await disk.close();
        },
      };
    },
  });
`;

/** A disk of zeroes, whose callbacks fail and wait at random. */
export const hostilePlugin = (seed: number, sizeBytes: number): string => `
  import { definePlugin, failure } from "asyncnbd";
  ${RANDOM(seed)}
  const bytes = Buffer.alloc(${sizeBytes});
  const answer = (offset, go) => {
    switch (random(30)) {
      case 0: throw injection(offset);
      case 1: return later().then(() => { throw injection(offset); });
      case 2: case 3: case 4: case 5: return later().then(go);
      default: return go();
    }
  };
  export default definePlugin({
    name: "hostile",
    getSize: () => bytes.length,
    canMultiConn: () => true,
    canFua: () => ${seed % 2 === 0 ? '"native"' : '"emulate"'},
    canZero: () => ${seed % 3 !== 0},
    pread: (_h, buf, offset) => answer(offset, () => { bytes.copy(buf, 0, offset); }),
    pwrite: (_h, buf, offset) => answer(offset, () => { buf.copy(bytes, offset); }),
    flush: () => answer(undefined, () => {}),
    trim: () => {},
    zero: (_h, count, offset) => answer(offset, () => { bytes.fill(0, offset, offset + count); }),
    extents: (_h, count, offset) => answer(offset, () => {
      const extents = [];
      for (let at = offset; at < offset + count; at += 4096) {
        const length = Math.min(4096, bytes.length - at);
        const zero = bytes.subarray(at, at + length).every((byte) => byte === 0);
        extents.push({ offset: at, length, hole: zero, zero });
      }
      return extents;
    }),
  });
`;
