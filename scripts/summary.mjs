// Prints "N passed, N failed" for vitest's JSON reports given as arguments, all together, and
// before it which tests were skipped and which failed, each with the first lines of the reason.

import { readFileSync } from "node:fs";

/** Whoever reads only the end of a long log shall find there what went wrong, and in which run. */
function tellOfFailure(report, name, messages) {
  console.log(`FAILED in ${report}: ${name}`);
  const reason = messages.join("\n").split("\n").slice(0, 15);
  for (const line of reason) console.log(`    ${line.slice(0, 300)}`);
}

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
    for (const test of file.assertionResults) {
      if (test.status === "pending" || test.status === "skipped")
        console.log(`skipped: ${test.fullName}`);
      if (test.status === "failed") tellOfFailure(path, test.fullName, test.failureMessages);
    }
  for (const file of broken) tellOfFailure(path, file.name, [file.message]);
}
console.log(`${passed} passed, ${failed} failed`);
