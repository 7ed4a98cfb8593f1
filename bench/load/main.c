/* An NBD client that keeps a server busy and tells how it did; --help has the details.
 * fio's nbd engine is at its own limit at about 150,000 requests a second, this one far beyond. */

#include <inttypes.h>
#include <stdio.h>

#include "bare.h"
#include "client.h"
#include "options.h"
#include "raw.h"

static void print_results(void) {
  const struct histogram *latencies = &results.latencies;
  const double total = latencies->total > 0 ? (double)latencies->total : 1;
  printf("{\"requests\":%" PRIu64 ",\"seconds\":%.6f,\"verified\":%" PRIu64, latencies->total,
         results.seconds, results.verified);
  printf(",\"serverSeconds\":%.6f,\"clientSeconds\":%.6f", results.server_seconds,
         results.client_seconds);
  printf(",\"meanUs\":%.2f,\"p50Us\":%.2f,\"p90Us\":%.2f,\"p99Us\":%.2f,\"p999Us\":%.2f,"
         "\"maxUs\":%.2f,\"histogram\":",
         (double)latencies->sum_ns / total / 1e3, histogram_percentile_us(latencies, 0.5),
         histogram_percentile_us(latencies, 0.9), histogram_percentile_us(latencies, 0.99),
         histogram_percentile_us(latencies, 0.999), (double)latencies->max_ns / 1e3);
  histogram_print(latencies, stdout);
  fputs(",\"answered\":[", stdout);
  for (size_t i = 0; i < options.connections && results.answered != NULL; i++)
    printf("%s%" PRIu64, i > 0 ? "," : "", results.answered[i]);
  puts("]}");
}

int main(int argc, char **argv) {
  parse_options(argc, argv);
  switch (options.mode) {
  case MODE_IDLE:
    client_idle();
    return 0;
  case MODE_CHURN:
    client_churn();
    break;
  case MODE_RAW:
    raw_run();
    break;
  case MODE_BARE:
    bare_run();
    break;
  case MODE_REQUESTS:
    client_run();
    break;
  }
  print_results();
  return 0;
}
