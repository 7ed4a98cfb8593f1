import { defineConfig } from "vitest/config";

// Two workers keep two cores busy without starving the servers under test.
const shared = { testTimeout: 60_000, hookTimeout: 60_000, maxWorkers: 2 };

const project = (name: string) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], ...shared },
});

export default defineConfig({
  test: {
    projects: [
      "unit",
      "native",
      "conformance",
      "e2e",
      "package",
      "soak",
      "fuzz",
      "differential",
    ].map(project),
    coverage: { include: ["src/**"] },
  },
});
