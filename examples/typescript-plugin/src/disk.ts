// A disk in memory whose blocks take memory only after they are written.

import { definePlugin, failure } from "asyncnbd";
import { eachBlock } from "./blocks.js";

const blocks = new Map<number, Buffer>();
const BLOCK_BYTES = 64 * 1024;

export default definePlugin({
  name: "my-disk",
  config: {
    size: { type: "size", magic: true, description: "How large the disk is" },
    limit: { type: "size", default: 2 ** 30, description: "How much memory it may take" },
  },
  canMultiConn: () => true,
  getSize() {
    return this.config.size;
  },
  pread(_handle, buf, offset) {
    for (const { number, start, part } of eachBlock(buf, offset, BLOCK_BYTES)) {
      const block = blocks.get(number);
      if (block === undefined) part.fill(0);
      else block.copy(part, 0, start, start + part.length);
    }
  },
  pwrite(_handle, buf, offset) {
    for (const { number, start, part } of eachBlock(buf, offset, BLOCK_BYTES)) {
      let block = blocks.get(number);
      if (block === undefined) {
        if ((blocks.size + 1) * BLOCK_BYTES > this.config.limit)
          throw failure("ENOSPC", `the disk has its ${this.config.limit} bytes of memory`);
        block = Buffer.alloc(BLOCK_BYTES);
        blocks.set(number, block);
      }
      part.copy(block, start);
    }
  },
});
