// Compiled by the type check, never run: what schemas of other libraries make of parameters.

import * as v from "valibot";
import { z } from "zod";
import { definePlugin, type StandardSchema, serve } from "../../src/index.js";

const whole = definePlugin({
  name: "whole",
  config: z.object({ blocks: z.number(), name: z.string().optional() }),
  getSize() {
    const blocks: number = this.config.blocks;
    const name: string | undefined = this.config.name;
    // @ts-expect-error it may be missing
    const always: string = this.config.name;
    // @ts-expect-error no such parameter
    this.config.nosuch;
    void [name, always];
    return blocks;
  },
  pread() {},
});
const named = definePlugin({
  name: "named",
  config: {
    size: "size",
    level: z.coerce.number(),
    parts: { schema: v.pipe(v.string(), v.transform(Number)), list: true },
  },
  getSize() {
    const level: number = this.config.level;
    const parts: readonly number[] = this.config.parts;
    // @ts-expect-error made a number
    const text: string = this.config.level;
    void [parts, text];
    return this.config.size + level;
  },
  pread() {},
});

const dated = definePlugin({
  name: "dated",
  config: z.object({
    until: z.union([z.string(), z.number(), z.date()]),
    names: z.array(z.string()).optional(),
    mode: z.any(),
    deep: z.object({ a: z.number() }).optional(),
  }),
  getSize() {
    const until: string | number | Date = this.config.until;
    void until;
    return 512;
  },
  pread() {},
});
const datedKey = definePlugin({
  name: "dated-key",
  config: { until: z.date() },
  getSize: () => 512,
  pread() {},
});

const ours: StandardSchema<string, number> = v.pipe(v.string(), v.transform(Number));
void ours;

async function use(): Promise<void> {
  await serve({ plugin: whole, config: { blocks: 1 } });
  // @ts-expect-error it is required
  await serve({ plugin: whole, config: { name: "a" } });
  // @ts-expect-error no such parameter
  await serve({ plugin: whole, config: { blocks: 1, blocs: 1 } });
  await serve({ plugin: named, config: { size: "1M", level: "5", parts: ["1"] } });
  // @ts-expect-error text
  await serve({ plugin: named, config: { size: "1M", parts: [1] } });
  await serve({ plugin: dated, config: { until: "2026", names: ["a"], mode: 1 } });
  await serve({ plugin: dated, config: { until: 5, mode: 1 } });
  // @ts-expect-error no command line has a date
  await serve({ plugin: dated, config: { until: new Date(), mode: 1 } });
  // @ts-expect-error nor an object
  await serve({ plugin: dated, config: { until: "2026", mode: 1, deep: { a: 1 } } });
  // @ts-expect-error nor a date here
  await serve({ plugin: datedKey, config: { until: new Date() } });
}
void use;
