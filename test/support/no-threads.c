/* Preloaded: there are no threads left as long as the file $NO_THREADS exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument) {
  const char *file = getenv("NO_THREADS");
  if (file != NULL && access(file, F_OK) == 0)
    return EAGAIN;
  __typeof__(pthread_create) *real =
      (__typeof__(pthread_create) *)dlsym(RTLD_NEXT, "pthread_create");
  return real(thread, attributes, start, argument);
}
