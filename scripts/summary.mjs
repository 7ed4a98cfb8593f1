// Prints "N passed, N failed" for vitest's JSON reports given as arguments, all together.

import { readFileSync } from "node:fs";

let passed = 0;
let failed = 0;
for (const path of process.argv.slice(2)) {
  const report = JSON.parse(readFileSync(path, "utf8"));
  passed += report.numPassedTests;
  // A file that could not even be loaded has no failed tests, but is a failure.
  const broken = report.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.every((t) => t.status === "passed"),
  );
  failed += report.numFailedTests + broken.length;
  for (const file of report.testResults)
    for (const test of file.assertionResults)
      if (test.status === "pending" || test.status === "skipped")
        console.log(`skipped: ${test.fullName}`);
}
console.log(`${passed} passed, ${failed} failed`);
