// A disk in memory.

import { definePlugin } from "asyncnbd";

let disk: Buffer;

export default definePlugin({
  name: "ram",
  config: { size: { type: "size", magic: true, description: "How large the disk is" } },
  getReady() {
    disk = Buffer.alloc(this.config.size);
  },
  canMultiConn: () => true,
  getSize: () => disk.length,
  pread(_handle, buf, offset) {
    disk.copy(buf, 0, offset, offset + buf.length);
  },
  pwrite(_handle, buf, offset) {
    buf.copy(disk, offset);
  },
});
