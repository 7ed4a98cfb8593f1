// The rows of the matrix: what serves a disk here, and what serves the same one in the other servers.

import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeCertificates } from "../support/certificates.mjs";
import { pluginOfNbdkit, SIZE_BYTES, withDisks } from "../support/lineup.mjs";
import { asyncnbd, canRun, nbdkit, nbdServer, qemuNbd } from "../support/servers.mjs";

export const PEERS = /** @type {const} */ (["nbdkit", "qemu-nbd", "nbd-server"]);

/**
 * @typedef {typeof PEERS[number]} Peer
 *
 * @typedef {object} Files what disks are made of
 * @property {string} memory a file on tmpfs
 * @property {string} disk a file on this machine's disk
 * @property {string | undefined} loop a loop device of such a file
 * @property {string | undefined} conf of a Ceph cluster
 * @property {string | undefined} certificates for TLS
 *
 * @typedef {object} Row
 * @property {readonly string[]} words of nbdkit's command line, for us
 * @property {readonly string[]} [theirs] for nbdkit; undefined: it has none of the kind
 * @property {string} [file] that the others serve, for they have no plugins
 * @property {readonly string[]} [qemu] more of qemu-nbd's options
 * @property {boolean} [isEmpty] to be filled first, or as nothing has been read from it yet
 * @property {string} [limit] the file whose pages a bare program moves instead; undefined: memory
 * @property {boolean} [hasNoLimit] as a bare program would have to do what the disk does
 */

const SIZE = String(SIZE_BYTES);
const ram = fileURLToPath(new URL("../../examples/ram.ts", import.meta.url));

/** By name, each a function of the files. @type {Record<string, (files: Files) => Row>} */
const ROWS = {
  memory: ({ memory }) => ({
    ...{ words: ["memory", SIZE], theirs: ["memory", SIZE], file: memory, isEmpty: true },
  }),
  "file-tmpfs": ({ memory }) => ({
    ...{ words: ["file", memory], theirs: ["file", memory], file: memory, limit: memory },
  }),
  "file-ext4": ({ disk }) => ({
    ...{ words: ["file", disk], theirs: ["file", disk], file: disk, limit: disk },
  }),
  "file-loop": ({ loop = "" }) => ({
    ...{ words: ["file", loop], theirs: ["file", loop], file: loop, limit: loop },
  }),
  "async-file": ({ memory }) => ({
    ...{ words: ["async-file", memory], theirs: ["file", memory], file: memory, limit: memory },
  }),
  // nbdkit has nothing without the page cache: against qemu-nbd it says more.
  "async-file-direct": ({ disk }) => ({
    ...{ words: ["async-file", disk, "direct=true"], theirs: ["file", disk], file: disk },
    ...{ qemu: ["--cache=none", "--aio=io_uring"], hasNoLimit: true },
  }),
  "ram.ts": ({ memory }) => ({
    ...{ words: [ram, `size=${SIZE}`], theirs: ["memory", SIZE], file: memory, isEmpty: true },
  }),
  "nbdkit-memory.so": ({ memory }) => ({
    ...{ words: [pluginOfNbdkit("memory"), SIZE], theirs: ["memory", SIZE], file: memory },
    isEmpty: true,
  }),
  rbd: ({ conf }) => ({
    ...{ words: ["rbd", "rbd/disk", `conf=${conf}`], file: `rbd:rbd/disk:conf=${conf}` },
    hasNoLimit: true,
  }),
};

export const PLUGINS = Object.keys(ROWS);

/** @param {string} plugin @param {Files} files */
export const rowOf = (plugin, files) => /** @type {(files: Files) => Row} */ (ROWS[plugin])(files);

/**
 * What serves a row's disk: "asyncnbd", and the peers that can.
 * @param {Row} row
 * @param {Files} files
 * @param {import("./cells.mjs").Transport} transport
 * @returns {Record<string, import("../support/lineup.mjs").Participant>}
 */
export function contestants({ words, theirs, file, qemu = [], isEmpty }, files, transport) {
  const folder = transport === "tls" ? files.certificates : undefined;
  const tls = folder === undefined ? [] : ["--tls=require", `--tls-certificates=${folder}`];
  const credentials = `tls-creds-x509,id=tls,endpoint=server,verify-peer=no,sanity-check=no,dir=${folder}`;
  const qemuTls = folder === undefined ? [] : [`--object=${credentials}`, "--tls-creds=tls"];
  // It has no drivers, and wants a certificate of each client that encrypts.
  const hasServer = transport !== "tls" && file !== undefined && !file.startsWith("rbd:");
  return {
    asyncnbd: { ...asyncnbd(...tls, ...words), isEmpty: isEmpty === true },
    ...(theirs && { nbdkit: { ...nbdkit(...tls, ...theirs), isEmpty: isEmpty === true } }),
    ...(file && { "qemu-nbd": qemuNbd(file, ...qemu, ...qemuTls) }),
    ...(hasServer && canRun("nbd-server", "-V") && { "nbd-server": nbdServer(file) }),
  };
}

/**
 * A loop device, where the system lets us have one.
 * @template T
 * @param {string} parent
 * @param {(loop: string) => Promise<T>} use
 */
async function withLoop(parent, use) {
  const file = join(parent, "loop");
  writeFileSync(file, Buffer.alloc(SIZE_BYTES, 0x5a));
  const losetup = (/** @type {string[]} */ ...words) =>
    execFileSync("losetup", words, { encoding: "utf8" }).trim();
  try {
    const loop = losetup("--find", "--show", file);
    try {
      return await use(loop);
    } finally {
      losetup("--detach", loop);
    }
  } finally {
    rmSync(file);
  }
}

/**
 * Runs `use` with what these plugins and transports need.
 * @template T
 * @param {readonly string[]} plugins
 * @param {readonly string[]} transports
 * @param {(files: Files) => Promise<T>} use
 */
export async function withFiles(plugins, transports, use) {
  const certificates = transports.includes("tls") ? makeCertificates() : undefined;
  const withCluster = async (/** @type {Omit<Files, "conf">} */ files) => {
    if (!plugins.includes("rbd")) return await use({ ...files, conf: undefined });
    const { withImage } = await import("../sections/remote-rbd.mjs");
    return await withImage((conf) => use({ ...files, conf }));
  };
  try {
    return await withDisks(({ memory, disk }) => {
      const files = { memory, disk, certificates };
      if (!plugins.includes("file-loop")) return withCluster({ ...files, loop: undefined });
      return withLoop(join(disk, ".."), (loop) => withCluster({ ...files, loop }));
    });
  } finally {
    if (certificates !== undefined) rmSync(certificates, { recursive: true });
  }
}
