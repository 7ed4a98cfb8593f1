// nbdkit_set_error, nbdkit_export_name, nbdkit_is_tls, nbdkit_shutdown and nbdkit_disconnect, which
// only use the context.
#include <cerrno>

#include "host/abi.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "host/thread_state.hpp"

using namespace asyncnbd::host;

extern "C" {

// A negative number is not an errno of the system; clients get EINVAL for it.
NBDKIT_DLL_PUBLIC void nbdkit_set_error(int err) {
  if (err != 0)
    thread_state().error = err > 0 ? err : EINVAL;
}

NBDKIT_DLL_PUBLIC const char *nbdkit_export_name(void) {
  CallContext *context = current_context();
  const char *name = context != nullptr ? context->export_name.load() : nullptr;
  if (name == nullptr) {
    nbdkit_error("nbdkit_export_name: no export is open on this thread");
    return nullptr;
  }
  return name;
}

NBDKIT_DLL_PUBLIC int nbdkit_is_tls(void) {
  CallContext *context = current_context();
  if (context == nullptr) {
    nbdkit_error("nbdkit_is_tls: not called from a connection");
    return -1;
  }
  return context->tls;
}

NBDKIT_DLL_PUBLIC void *asyncnbd_instance(void) {
  CallContext *context = current_context();
  return context != nullptr ? context->instance : thread_state().instance;
}

NBDKIT_DLL_PUBLIC int nbdkit_async_may_copy(void) {
  return thread_state().may_copy;
}

NBDKIT_DLL_PUBLIC void nbdkit_shutdown(void) {
  if (CallContext *context = current_context())
    context->server->request_shutdown();
  else if (ShutdownWish *wish = thread_state().starting)
    wish->express();
  else
    request_shutdown_everywhere();
}

NBDKIT_DLL_PUBLIC void nbdkit_disconnect(int force) {
  if (CallContext *context = current_context())
    context->disconnect(force != 0);
  else
    log_debug("nbdkit_disconnect: not called from a connection, nothing to disconnect");
}

} // extern "C"
