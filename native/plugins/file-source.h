/* What the file plugin serves, as its parameters say. */
#ifndef FILE_SOURCE_H
#define FILE_SOURCE_H

#include <stdbool.h>

#include "file-eviction.h"

struct nbdkit_exports;

/* The parameter that says what to serve. */
enum source { SOURCE_NONE, SOURCE_FILE, SOURCE_DIRECTORY, SOURCE_FD, SOURCE_DIRECTORY_FD };

struct settings {
  enum source source;
  char *path;        /* of the file or directory; for a descriptor, its name in messages */
  int fd;            /* the user's descriptor for fd= and dirfd=, which stays open */
  int access_advice; /* POSIX_FADV_* */
  bool evicts;       /* cache=none */
  struct file_eviction_errors *eviction_errors; /* if it evicts and all handles share one file */
};

/* The settings of this instance of the plugin. */
struct settings *file_settings(void);

int file_config(const char *key, const char *value);
int file_config_complete(void);
void file_source_unload(void);
int file_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports);
/* Opens what a client gets, for writing if that is wanted and possible. Returns a descriptor, which
 * the caller closes, or -1 after an error. */
int file_open_source(bool readonly, bool *writable);

#endif /* FILE_SOURCE_H */
