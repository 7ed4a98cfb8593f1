/* See histogram.h. */
#include "histogram.h"

#include <inttypes.h>
#include <stdbool.h>

#define SUB_BUCKETS (UINT64_C(1) << HISTOGRAM_SUB_BITS)

/* Values below 2 * SUB_BUCKETS have a bucket each; above, each power of two has SUB_BUCKETS. */
static size_t bucket_of(uint64_t value) {
  if (value < SUB_BUCKETS)
    return value;
  const unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
  return ((size_t)shift << HISTOGRAM_SUB_BITS) + (value >> shift);
}

/* The middle of what the bucket holds. */
static double value_of(size_t bucket) {
  if (bucket < 2 * SUB_BUCKETS)
    return (double)bucket;
  const unsigned shift = (unsigned)(bucket >> HISTOGRAM_SUB_BITS) - 1;
  const uint64_t least = (bucket - ((size_t)shift << HISTOGRAM_SUB_BITS)) << shift;
  return (double)least + (double)((UINT64_C(1) << shift) - 1) / 2;
}

void histogram_record(struct histogram *histogram, uint64_t ns) {
  histogram->counts[bucket_of(ns)]++;
  histogram->total++;
  histogram->sum_ns += ns;
  if (ns > histogram->max_ns)
    histogram->max_ns = ns;
}

double histogram_percentile_us(const struct histogram *histogram, double part) {
  const double wanted = part * (double)histogram->total;
  uint64_t seen = 0;
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += histogram->counts[i];
    if (seen > 0 && (double)seen >= wanted)
      return value_of(i) / 1e3;
  }
  return 0;
}

void histogram_print(const struct histogram *histogram, FILE *to) {
  bool is_first = true;
  fputc('[', to);
  for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    if (histogram->counts[i] == 0)
      continue;
    fprintf(to, "%s[%.3f,%" PRIu64 "]", is_first ? "" : ",", value_of(i) / 1e3,
            histogram->counts[i]);
    is_first = false;
  }
  fputc(']', to);
}
