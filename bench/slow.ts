// A disk that takes 64 ms for each request, by one timer each.
import { definePlugin } from "asyncnbd";

const DELAY_MS = 64;
let disk: Buffer | undefined;

export default definePlugin({
  name: "slow",
  config: { size: { type: "size", magic: true } },
  canMultiConn: () => true,
  getSize: (disk: Buffer) => disk.length,
  open() {
    disk ??= Buffer.alloc(this.config.size, 1);
    return disk;
  },
  pread: (disk, buf, offset) =>
    new Promise((resolve) => {
      setTimeout(() => {
        disk.copy(buf, 0, offset, offset + buf.length);
        resolve();
      }, DELAY_MS);
    }),
  pwrite: (disk, buf, offset) =>
    new Promise((resolve) => {
      setTimeout(() => {
        buf.copy(disk, offset);
        resolve();
      }, DELAY_MS);
    }),
});
