// The shipped s3 plugin is the disk that it should be, under random requests on a way to the store
// (Ceph's radosgw) on which requests and answers are lost, late and refused.

import { expect, test } from "vitest";
import { CMD } from "../support/protocol.js";
import { errorDocument, type Fate, startProxy } from "../support/s3-proxy.js";
import { BUCKET, S3_ENVIRONMENT, startS3 } from "../support/s3-server.js";
import { startServer } from "../support/server.js";
import { StrictClient } from "../support/strict-client.js";

const s3 = startS3();

const BYTES = 64 * 1024;
const OBJECT = 4096;
const FATES: readonly Fate[] = [
  "lose the request",
  "lose the answer",
  "cut the answer",
  { delayMs: 20 },
  { status: 503, body: errorDocument("SlowDown") },
];

/** The same numbers each time: from 0 on, less than `end`. */
function randomNumbers(): (end: number) => number {
  let state = 1;
  return (end) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % end;
  };
}

/** Begins and ends of ranges that lie one after the other: what is asked for at once is certain. */
function ranges(random: (end: number) => number): [number, number][] {
  const places = Array.from({ length: 12 }, () => random(BYTES / 256) * 256);
  if (random(2) === 0) places.push(...[1, 2, 5].map((object) => object * OBJECT));
  const sorted = [...new Set([0, ...places, BYTES])].sort((a, b) => a - b);
  return sorted.slice(1).map((end, i) => [sorted[i] as number, end]);
}

test.each([
  ["with conditions", "false"],
  ["of one writer alone", "true"],
])(
  "a volume %s",
  async (_, singleWriter) => {
    const proxy = await startProxy(s3.ceph.s3Port);
    const volume = [
      `bucket=${BUCKET}`,
      `key=${singleWriter}`,
      `size=${BYTES}`,
      `object-size=${OBJECT}`,
    ];
    const more = [`endpoint-url=${proxy.url}`, "retry-delay=5ms", `single-writer=${singleWriter}`];
    const server = await startServer(["s3", ...volume, ...more], { env: S3_ENVIRONMENT });
    const client = await StrictClient.connect(server.socket, { style: "structured" });
    const random = randomNumbers();
    let lost = 0;
    proxy.fate = () => {
      if (random(3) !== 0) return "pass";
      lost++;
      return FATES[random(FATES.length)] as Fate;
    };
    const disk = Buffer.alloc(BYTES);
    const change = (begin: number, end: number) => {
      const [offset, length] = [BigInt(begin), end - begin];
      const kind = random(5);
      if (kind > 2) return undefined;
      if (kind === 0) {
        disk.fill(1 + random(255), begin, end);
        const payload = Buffer.from(disk.subarray(begin, end));
        return { type: CMD.WRITE, offset, payload };
      }
      if (kind === 1) disk.fill(0, begin, end);
      else disk.fill(0, Math.ceil(begin / OBJECT) * OBJECT, Math.max(0, end - (end % OBJECT)));
      const type = kind === 1 ? CMD.WRITE_ZEROES : CMD.TRIM;
      return { type, offset, length };
    };
    for (let round = 0; round < 25; round++) {
      const changes = ranges(random).map(([begin, end]) => change(begin, end));
      const answers = await client.requests(...changes.filter((one) => one !== undefined));
      expect(answers.filter(({ error }) => error !== 0)).toEqual([]);
      expect((await client.read(0n, BYTES)).data.equals(disk)).toBe(true);
    }
    expect(lost).toBeGreaterThan(100);
    expect(server.stderr()).not.toContain("another writer");
  },
  120_000,
);
