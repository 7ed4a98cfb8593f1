/* Latencies by a log-linear histogram: exact to 1 part in 128, whatever their size. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_SUB_BITS 7 /* a power of two is divided into 2^7 buckets */
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
  uint64_t counts[HISTOGRAM_BUCKETS];
  uint64_t total;
  uint64_t sum_ns;
  uint64_t max_ns;
};

void histogram_record(struct histogram *histogram, uint64_t ns);

/* Of the values, `part` (0 to 1) are not greater. */
double histogram_percentile_us(const struct histogram *histogram, double part);

/* As a list in JSON of [microseconds, count], without those that are empty. */
void histogram_print(const struct histogram *histogram, FILE *to);

#endif
