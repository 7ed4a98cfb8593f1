// A disk in memory, in ten lines: asyncnbd examples/ram.ts size=1G
import { allocateDisk, definePlugin } from "asyncnbd";

export default definePlugin({
  name: "ram",
  config: { size: { type: "size", magic: true } },
  canMultiConn: () => true,
  getSize: (disk: Buffer) => disk.length,
  open() {
    disk ??= allocateDisk(this.config.size);
    return disk;
  },
  memory: (disk) => disk,
  async pread(disk, buf, offset) {
    disk.copy(buf, 0, offset, offset + buf.length);
  },
  async pwrite(disk, buf, offset) {
    buf.copy(disk, offset);
  },
});

let disk: Buffer | undefined;
