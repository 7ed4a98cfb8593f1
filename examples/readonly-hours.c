/* A filter that lets clients write only during some hours of the day. Compile it with
 *     cc -shared -fPIC -I INCLUDEDIR readonly-hours.c -o hours.so
 * and serve with asyncnbd or nbdkit 1.32: asyncnbd --filter=./hours.so memory 1G from=9 to=18 */

#include <nbdkit-filter.h>

#include <string.h>
#include <time.h>

static unsigned from = 0;
static unsigned to = 24;

static int hours_config(nbdkit_next_config *next, nbdkit_backend *nxdata, const char *key,
                        const char *value) {
  if (strcmp(key, "from") == 0)
    return nbdkit_parse_unsigned("from", value, &from);
  if (strcmp(key, "to") == 0)
    return nbdkit_parse_unsigned("to", value, &to);
  return next(nxdata, key, value); /* for the plugin or the next filter */
}

static int may_write(int *err) {
  time_t now = time(NULL);
  struct tm local;

  localtime_r(&now, &local);
  if ((unsigned)local.tm_hour >= from && (unsigned)local.tm_hour < to)
    return 1;
  nbdkit_error("writing is allowed from %u to %u o'clock", from, to);
  *err = EPERM;
  return 0;
}

static int hours_pwrite(nbdkit_next *next, void *handle, const void *buf, uint32_t count,
                        uint64_t offset, uint32_t flags, int *err) {
  (void)handle;
  return may_write(err) ? next->pwrite(next, buf, count, offset, flags, err) : -1;
}

static int hours_trim(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                      uint32_t flags, int *err) {
  (void)handle;
  return may_write(err) ? next->trim(next, count, offset, flags, err) : -1;
}

static int hours_zero(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                      uint32_t flags, int *err) {
  (void)handle;
  return may_write(err) ? next->zero(next, count, offset, flags, err) : -1;
}

static struct nbdkit_filter filter = {
    .name = "readonly-hours",
    .longname = "lets clients write during some hours",
    .config = hours_config,
    .config_help = "from=HOUR  From this hour on (default 0).\n"
                   "to=HOUR    Until before this hour (default 24).",
    .pwrite = hours_pwrite,
    .trim = hours_trim,
    .zero = hours_zero,
};

NBDKIT_REGISTER_FILTER(filter)
