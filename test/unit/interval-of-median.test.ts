import { expect, test } from "vitest";
import { intervalOfMedian } from "../../bench/support/statistics.mjs";

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1).reverse();

// Of 20 values, the sixth and the fifteenth: tables of the sign test have it as 95.9 %.
test.each([
  [20, [6, 15]],
  [30, [10, 21]],
  [6, [1, 6]],
  [5, [1, 5]], // 93.75 %, and there are no more
])("the median lies between two of %i values with 95 percent", (count, interval) => {
  expect(intervalOfMedian(upTo(count))).toEqual(interval);
});
