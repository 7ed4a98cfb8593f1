// What the server sees of the disk in disk.ml.
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <stdbool.h>
#include <string.h>

#include <caml/alloc.h>
#include <caml/callback.h>
#include <caml/memory.h>
#include <caml/mlvalues.h>
#include <caml/printexc.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

// Calls a function of disk.ml. Returns false, and says why, if it has raised an exception.
static bool call(const char *name, int count, value *arguments, value *result) {
  *result = caml_callbackN_exn(*caml_named_value(name), count, arguments);
  if (!Is_exception_result(*result))
    return true;
  char *text = caml_format_exception(Extract_exception(*result));
  nbdkit_error("%s", text);
  caml_stat_free(text);
  return false;
}

static void say(const char *word) {
  value result, text = caml_copy_string(word);
  call("say", 1, &text, &result);
}

static void disk_load(void) {
  char *arguments[] = {"disk", NULL};
  caml_startup(arguments);
  say("load");
}

static void disk_unload(void) {
  say("unload");
  caml_shutdown();
}

static int disk_config(const char *key, const char *text) {
  CAMLparam0();
  CAMLlocal1(result);
  CAMLlocalN(arguments, 2);
  arguments[0] = caml_copy_string(key);
  arguments[1] = caml_copy_string(text);
  CAMLreturnT(int, call("config", 2, arguments, &result) ? 0 : -1);
}

static void *disk_open(int readonly) {
  say(readonly ? "open for reading" : "open");
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static void disk_close(void *handle) {
  (void)handle;
  say("close");
}

static int64_t disk_size(void *handle) {
  (void)handle;
  value result, unit = Val_unit;
  return call("size", 1, &unit, &result) ? Long_val(result) : -1;
}

static int disk_read(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  value result, arguments[] = {Val_long(count), Val_long(offset)};
  if (!call("read", 2, arguments, &result))
    return -1;
  memcpy(buffer, Bytes_val(result), count);
  return 0;
}

static int disk_write(void *handle, const void *buffer, uint32_t count, uint64_t offset,
                      uint32_t flags) {
  (void)handle, (void)flags;
  value result, arguments[] = {caml_alloc_initialized_string(count, buffer), Val_long(offset)};
  return call("write", 2, arguments, &result) ? 0 : -1;
}

#define LANGUAGE "ocaml"
#include "table.h"
