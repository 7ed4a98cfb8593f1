// Compiled by the type check, never run: right options of serve() compile, wrong ones do not.

import { defineFilter, definePlugin, type ServeOptions, serve } from "../../src/index.js";
import { defineMiddleware } from "../../src/middleware/index.js";

const disk = definePlugin({
  name: "disk",
  config: {
    size: "size",
    mode: { type: "enum", values: ["fast", "safe"], default: "safe" },
    label: { type: "string", required: false },
    file: { type: "path", list: true, required: false },
    sync: "bool",
  },
  getSize: () => 512,
  pread: (_handle, buf) => void buf.fill(0),
});
const plain = definePlugin({ name: "plain", getSize: () => 512, pread() {} });
const renamed = definePlugin({
  name: "renamed",
  config: { directory: { type: "path", aliases: ["dir"] } },
  getSize: () => 512,
  pread() {},
});
const passing = defineMiddleware({ name: "passing", open: (next, info) => next(info) });
const hours = defineFilter({ name: "hours", config: { from: "integer" }, create: () => passing });

async function use(): Promise<void> {
  await serve({ plugin: disk, config: { size: "1G" } });
  await serve({ plugin: disk, config: { size: 1024, mode: "fast", label: "a", sync: true } });
  await serve({ plugin: disk, config: { size: 1, file: ["/a", "/b"], sync: "off" } });
  // @ts-expect-error no such parameter
  await serve({ plugin: disk, config: { sise: "1G" } });
  // @ts-expect-error no such parameter, besides
  await serve({ plugin: disk, config: { size: "1G", mood: "fast" } });
  // @ts-expect-error size is required
  await serve({ plugin: disk, config: {} });
  // @ts-expect-error and so is config
  await serve({ plugin: disk });
  // @ts-expect-error not one of its values
  await serve({ plugin: disk, config: { size: 1, mode: "quick" } });
  // @ts-expect-error no number
  await serve({ plugin: disk, config: { size: true } });
  // @ts-expect-error given once
  await serve({ plugin: disk, config: { size: [1, 2] } });
  // @ts-expect-error text
  await serve({ plugin: disk, config: { size: 1, label: 1 } });

  await serve({ plugin: plain });
  // @ts-expect-error it has no parameters
  await serve({ plugin: plain, config: { size: "1G" } });
  await serve({ plugin: renamed, config: { dir: "." } });
  await serve({ plugin: { ...disk, name: "other" }, config: { size: 1 } });

  // Those that are named take what they like.
  await serve({ plugin: "memory", config: { size: "1G", anything: [1, 2] } });
  await serve({ plugin: disk, config: { size: 1, rdelay: 10 }, filters: ["delay"] });
  // @ts-expect-error size is required all the same
  await serve({ plugin: disk, config: { rdelay: 10 }, filters: ["delay"] });
  // @ts-expect-error no object is a parameter
  await serve({ plugin: "memory", config: { size: {} } });

  await serve({ plugin: plain, filters: [hours, passing], config: { from: 8 } });
  await serve({ plugin: disk, filters: [hours], config: { from: 8, size: 1 } });
  // @ts-expect-error the filter has no such parameter
  await serve({ plugin: plain, filters: [hours], config: { frm: 8 } });
  // @ts-expect-error the filter's is required
  await serve({ plugin: disk, filters: [hours], config: { size: 1 } });

  const options: ServeOptions = { plugin: "memory", config: { size: "1G" } };
  await serve(options);
  // @ts-expect-error no such option
  await serve({ plugin: plain, lissen: "nothing" });
}
void use;
