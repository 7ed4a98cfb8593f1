// Several servers of one C plugin in a process, of plugins that are made for it: ours, and those in Go.

import { copyFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "vitest";
import { program } from "../support/instances.js";
import { buildPlugin } from "../support/languages.js";
import { sanitizer, testPlugin } from "../support/server.js";

test("plugins by nbdkit-async.hpp share one library and have an object for each server", async () => {
  await program(
    testPlugin("async-ramdisk"),
    `const loaded = () => new Set(readFileSync("/proc/self/maps", "utf8").match(/\\S*async-ramdisk\\S*/g));
     const start = (size) => serve({ plugin, config: { size } });
     const [one, two] = await Promise.all([start("1M"), start("2M")]);
     assert.equal(loaded().size, 1);
     const write = (uri, byte) => sh(\`qemu-io -f raw -c 'write -P \${byte} 0 4k' '\${uri}'\`);
     await Promise.all([write(one.uri, 1), write(two.uri, 2)]);
     await Promise.all([holds(one.uri, 1), holds(two.uri, 2)]);
     assert.equal(await sh(\`nbdinfo --size '\${two.uri}'\`), "2097152\\n");
     await one.close();
     await holds(two.uri, 2);
     await two.close();`,
  );
});

// Each has the runtime of Go in it, whose signals and threads the whole process shares.
describe.skipIf(sanitizer !== undefined)(
  "plugins in Go serve side by side, each its own disk:",
  () => {
    test.each(["of one file", "of two files"])("two %s", async (files) => {
      const plugin = await buildPlugin("go");
      const other = join(dirname(plugin), "other.so");
      copyFileSync(plugin, other);
      await program(
        plugin,
        `const other = ${JSON.stringify(files === "of one file" ? plugin : other)};
       const use = ({ uri }, byte) => sh(
         \`qemu-io -f raw -c 'write -P \${byte} 0 1M' -c 'read -P \${byte} 0 1M' '\${uri}'\`);
       const often = async (server, first) => {
         for (let i = 0; i < 20; i++) await use(server, first + i);
       };
       const one = await serve({ plugin });
       const two = await serve({ plugin: other });
       await Promise.all([often(one, 1), often(two, 101)]);
       await Promise.all([holds(one.uri, 20), holds(two.uri, 120)]);
       await one.close();
       await often(two, 201);
       const three = await serve({ plugin });
       await holds(three.uri, 0);
       await Promise.all([often(two, 101), often(three, 1)]);
       await Promise.all([two.close(), three.close()]);`,
        { GOGC: "1" }, // garbage is collected all the time, for which threads are stopped by signals
      );
    });
  },
);

describe("our own plugins allow any number of instances:", () => {
  test("a thousand of file, each with its own", async () => {
    await program(
      testPlugin("file"),
      `const servers = [];
       for (let i = 0; i < 1000; i++) {
         const listen = i % 250 === 0 ? "private-unix" : "nothing";
         servers.push(await serve({ ...image("disk" + (i % 256), i % 256), listen }));
       }
       for (const i of [0, 250, 500, 750]) await holds(servers[i].uri, i % 256);
       await Promise.all(servers.map((server) => server.close()));
       const again = await serve(image("again", 9));
       await holds(again.uri, 9);
       await again.close();`,
    );
  });

  test("a thousand of memory, each with its own", async () => {
    await program(
      testPlugin("memory"),
      `const servers = [];
       for (let i = 0; i < 1000; i++) {
         const listen = i % 250 === 0 ? "private-unix" : "nothing";
         servers.push(await serve({ plugin, config: { size: i + 1 + "M" }, listen }));
       }
       const some = [0, 250, 500, 750].map((i) => [i, servers[i].uri]);
       for (const [i, uri] of some)
         await sh(\`qemu-io -f raw -c 'write -P \${i % 251 + 1} 0 64k' '\${uri}'\`);
       for (const [i, uri] of some) {
         await holds(uri, i % 251 + 1);
         assert.equal(await sh(\`nbdinfo --size '\${uri}'\`), (i + 1) * 2 ** 20 + "\\n");
       }
       await Promise.all(servers.map((server) => server.close()));`,
    );
  });

  test.each(["null", "delay-memory"])("two of %s, of different sizes", async (name) => {
    await program(
      testPlugin(name),
      `const one = await serve({ plugin, config: { size: "1M" }, filters: ["readonly"] });
       const two = await serve({ plugin, config: { size: "2M" } });
       await one.close();
       assert.equal(await sh(\`nbdinfo --size '\${two.uri}'\`), "2097152\\n");
       await holds(two.uri, 0);
       await two.close();`,
    );
  });

  test.each(["io_uring", "threads"])(
    "two of async-file with %s, each with its own",
    async (engine) => {
      await program(
        testPlugin("async-file"),
        `const withEngine = ({ plugin, config }) => ({ plugin, config: { ...config, engine: "${engine}" } });
       const one = await serve(withEngine(image("one", 1)));
       const two = await serve(withEngine(image("two", 2)));
       await Promise.all([holds(one.uri, 1), holds(two.uri, 2)]);
       await one.close();
       await holds(two.uri, 2);
       await two.close();`,
      );
    },
  );
});
