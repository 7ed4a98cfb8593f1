import { defineConfig } from "vitest/config";

// One worker per folder's files keeps two cores busy without starving the servers under test.
const slow = { testTimeout: 60_000, hookTimeout: 60_000, maxWorkers: 2 };

export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"] } },
      { test: { name: "conformance", include: ["test/conformance/**/*.test.ts"], ...slow } },
      { test: { name: "e2e", include: ["test/e2e/**/*.test.ts"], ...slow } },
      { test: { name: "differential", include: ["test/differential/**/*.test.ts"], ...slow } },
    ],
    coverage: { include: ["src/**"] },
  },
});
