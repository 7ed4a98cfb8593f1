// Compiled by the type check, never run: plugins that are right compile, wrong ones do not.

import { definePlugin } from "../../src/index.js";

// @ts-expect-error no pread
definePlugin({ name: "a", getSize: () => 1 });
definePlugin({
  name: "b",
  config: {
    size: "size",
    mode: { type: "enum", values: ["x", "y"] },
    label: { type: "string", required: false },
    file: { type: "path", list: true },
    times: { type: "time", list: true, required: false },
  },
  open() {
    const files: readonly string[] = this.config.file;
    const times: readonly number[] = this.config.times;
    // @ts-expect-error a list
    const file: string = this.config.file;
    void [files, times, file];
    return Buffer.alloc(this.config.size);
  },
  getSize(disk) {
    // @ts-expect-error not a string
    const n: string = this.config.size;
    const mode: "x" | "y" = this.config.mode;
    // @ts-expect-error may be missing
    const label: string = this.config.label;
    // @ts-expect-error no such parameter
    this.config.nosuch;
    void [n, mode, label];
    return disk.length;
  },
  pread(disk, buf, offset) {
    disk.copy(buf, 0, offset);
  },
});
// @ts-expect-error getSize gives a number
definePlugin({ name: "c", getSize: () => "1", pread() {} });
// @ts-expect-error a misspelt callback
definePlugin({ name: "e", getSize: () => 1, pread() {}, pwrit() {} });
// @ts-expect-error a misspelt property
definePlugin({ name: "f", getSize: () => 1, pread() {}, threadmodel: "parallel" });
// @ts-expect-error no such thread model
definePlugin({ name: "g", getSize: () => 1, pread() {}, threadModel: "serial" });
// @ts-expect-error no such type of a parameter
definePlugin({ name: "h", config: { size: "sise" }, getSize: () => 1, pread() {} });
definePlugin({
  name: "d",
  getSize: () => 1,
  // @ts-expect-error it gets a Buffer
  pread(_handle, buf: string) {
    void buf;
  },
});

let disk: Buffer | undefined;
definePlugin({
  name: "ram",
  config: { size: "size" },
  open() {
    disk ??= Buffer.alloc(this.config.size);
    return disk;
  },
  getSize: (disk) => disk.length,
  async pread(disk, buf, offset) {
    disk.copy(buf, 0, offset, offset + buf.length);
  },
  async pwrite(disk, buf, offset) {
    buf.copy(disk, offset);
  },
});
