import { defineConfig } from "vitest/config";

// Tests wait a good part of their time, so three workers keep two cores busy without starving the
// servers under test.
const shared = { testTimeout: 60_000, hookTimeout: 60_000, maxWorkers: 3 };

const project = (name: string, more = {}) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], ...shared, ...more },
});

export default defineConfig({
  test: {
    projects: ["unit", "native", "conformance", "e2e", "soak", "fuzz", "differential"]
      .map((name) => project(name))
      .concat(project("package", { globalSetup: "test/package/pack.ts" })),
    coverage: { include: ["src/**"] },
  },
});
