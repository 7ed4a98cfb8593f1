// What NBDKIT_ASYNC_PLUGIN makes of a class: nbdkit's table of callbacks. Include nbdkit-async.hpp.
//
// Which callbacks there are is decided by the names of the class's members, so that one whose
// arguments are wrong does not compile, rather than being left out.

#ifndef NBDKIT_ASYNC_CALLBACKS_HPP
#define NBDKIT_ASYNC_CALLBACKS_HPP

#ifndef NBDKIT_ASYNC_HPP
#error "include <nbdkit-async.hpp>, which includes this file"
#endif

namespace nbdkit {
namespace detail {

// A member of that name, whatever it is, makes the name ambiguous beside another's.
#define NBDKIT_ASYNC_MEMBER(name)                                                                  \
  struct Named_##name {                                                                            \
    int name;                                                                                      \
  };                                                                                               \
  template <class T> struct Beside_##name : T, Named_##name {};                                    \
  template <class T, class = void> struct Has_##name : std::true_type {};                          \
  template <class T>                                                                               \
  struct Has_##name<T, std::void_t<decltype(&Beside_##name<T>::name)>> : std::false_type {};

NBDKIT_ASYNC_MEMBER(longname)
NBDKIT_ASYNC_MEMBER(version)
NBDKIT_ASYNC_MEMBER(description)
NBDKIT_ASYNC_MEMBER(config_help)
NBDKIT_ASYNC_MEMBER(magic_config_key)
NBDKIT_ASYNC_MEMBER(dump_plugin)
NBDKIT_ASYNC_MEMBER(config)
NBDKIT_ASYNC_MEMBER(config_complete)
NBDKIT_ASYNC_MEMBER(thread_model)
NBDKIT_ASYNC_MEMBER(get_ready)
NBDKIT_ASYNC_MEMBER(after_fork)
NBDKIT_ASYNC_MEMBER(drained)
NBDKIT_ASYNC_MEMBER(cleanup)
NBDKIT_ASYNC_MEMBER(preconnect)
NBDKIT_ASYNC_MEMBER(list_exports)
NBDKIT_ASYNC_MEMBER(default_export)
NBDKIT_ASYNC_MEMBER(open)
NBDKIT_ASYNC_MEMBER(export_description)
NBDKIT_ASYNC_MEMBER(block_size)
NBDKIT_ASYNC_MEMBER(can_write)
NBDKIT_ASYNC_MEMBER(can_flush)
NBDKIT_ASYNC_MEMBER(is_rotational)
NBDKIT_ASYNC_MEMBER(can_trim)
NBDKIT_ASYNC_MEMBER(can_zero)
NBDKIT_ASYNC_MEMBER(can_fast_zero)
NBDKIT_ASYNC_MEMBER(can_multi_conn)
NBDKIT_ASYNC_MEMBER(can_extents)
NBDKIT_ASYNC_MEMBER(can_fua)
NBDKIT_ASYNC_MEMBER(can_cache)
NBDKIT_ASYNC_MEMBER(read)
NBDKIT_ASYNC_MEMBER(write)
NBDKIT_ASYNC_MEMBER(flush)
NBDKIT_ASYNC_MEMBER(trim)
NBDKIT_ASYNC_MEMBER(zero)
NBDKIT_ASYNC_MEMBER(cache)
NBDKIT_ASYNC_MEMBER(extents)
#undef NBDKIT_ASYNC_MEMBER

// A client's open export is what the plugin's open returns, or the plugin itself.
template <class P, bool = Has_open<P>::value> struct HandleOf { using type = P; };
template <class P> struct HandleOf<P, true> {
  using type = typename decltype(std::declval<P &>().open(true))::element_type;
};

// `call` gets the request. 0: it has been answered, or somebody has it who will.
template <class R, class F>
int serve(const char *command, Call here, R &&request, F call) noexcept {
  Call *const outer = std::exchange(current_call, &here);
  const int error = guarded(command, [&] {
    R own(std::forward<R>(request));
    call(std::move(own));
  });
  current_call = outer;
  if (!here.is_dropped)
    return 0;
  if (error == 0)
    nbdkit_error("%s: the request was dropped without an answer: the client gets EIO", command);
  nbdkit_async_reply_errno(here.conn, here.reqid, error == 0 ? EIO : error);
  return 0;
}

// -1 where it throws; the errno is then the one that a client gets.
template <class F> int64_t ask(const char *what, F &&question) noexcept {
  int64_t answer = -1;
  const int error = guarded(what, [&] { answer = static_cast<int64_t>(question()); });
  if (error == 0)
    return answer;
  nbdkit_set_error(error);
  return -1;
}

// For those that return nothing.
template <class F> int perform(const char *what, F &&action) noexcept {
  return static_cast<int>(ask(what, [&] {
    action();
    return 0;
  }));
}

template <class P> struct Callbacks {
  using Handle = typename HandleOf<P>::type;

  // Made by the first callback, which need not be one that can fail on its own; before any client
  // and any other thread, as config_complete is always called.
  static P &plugin() {
    P **place = static_cast<P **>(asyncnbd_instance());
    if (*place == nullptr)
      *place = new P();
    return **place;
  }
  static Handle &of(void *handle) { return *static_cast<Handle *>(handle); }

  static void unload() { delete std::exchange(*static_cast<P **>(asyncnbd_instance()), nullptr); }

  static int config(const char *key, const char *value) {
    return perform("config", [&] {
      if (plugin().config(key, value))
        return;
      nbdkit_error("unknown parameter \"%s\"", key);
      throw Reported(EINVAL);
    });
  }
  static int config_complete() {
    return perform("config_complete", [] {
      [[maybe_unused]] P &made = plugin();
      if constexpr (Has_config_complete<P>::value)
        made.config_complete();
    });
  }

  static void *open([[maybe_unused]] int readonly) {
    void *handle = nullptr;
    perform("open", [&] {
      if constexpr (Has_open<P>::value) {
        std::unique_ptr<Handle> opened = plugin().open(readonly != 0);
        if (opened == nullptr)
          throw std::runtime_error("no handle was returned");
        handle = opened.release();
      } else {
        handle = &plugin();
      }
    });
    return handle;
  }
  static void close(void *handle) { delete &of(handle); }

  static int thread_model() {
    return static_cast<int>(ask("thread_model", [] { return plugin().thread_model(); }));
  }
  static int get_ready() {
    return perform("get_ready", [] { plugin().get_ready(); });
  }
  static int after_fork() {
    return perform("after_fork", [] { plugin().after_fork(); });
  }
  static void drained() {
    guarded("drained", [] { plugin().drained(); });
  }
  static void cleanup() {
    guarded("cleanup", [] { plugin().cleanup(); });
  }
  static void dump_plugin() {
    guarded("dump_plugin", [] { plugin().dump_plugin(); });
  }
  static int preconnect(int readonly) {
    return perform("preconnect", [&] { plugin().preconnect(readonly != 0); });
  }
  static int list_exports(int readonly, int is_tls, struct nbdkit_exports *list) {
    return perform("list_exports", [&] {
      Exports exports(list);
      plugin().list_exports(readonly != 0, is_tls != 0, exports);
    });
  }
  static const char *default_export(int readonly, int is_tls) {
    const char *kept = nullptr;
    perform("default_export", [&] {
      const std::string name = plugin().default_export(readonly != 0, is_tls != 0);
      kept = nbdkit_strdup_intern(name.c_str());
    });
    return kept;
  }

  static int64_t get_size(void *handle) {
    return ask("get_size", [&] { return of(handle).get_size(); });
  }
  static const char *export_description(void *handle) {
    const char *kept = nullptr;
    perform("export_description", [&] {
      const std::string text = of(handle).export_description();
      kept = nbdkit_strdup_intern(text.c_str());
    });
    return kept;
  }
  static int block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum) {
    return perform("block_size", [&] {
      const BlockSize size = of(handle).block_size();
      *minimum = size.minimum;
      *preferred = size.preferred;
      *maximum = size.maximum;
    });
  }

#define NBDKIT_ASYNC_QUESTION(name, type)                                                          \
  static int name(void *handle) {                                                                  \
    return static_cast<int>(ask(#name, [&] {                                                       \
      const type answer = of(handle).name();                                                       \
      return static_cast<int>(answer);                                                             \
    }));                                                                                           \
  }
  NBDKIT_ASYNC_QUESTION(can_write, bool)
  NBDKIT_ASYNC_QUESTION(can_flush, bool)
  NBDKIT_ASYNC_QUESTION(is_rotational, bool)
  NBDKIT_ASYNC_QUESTION(can_trim, bool)
  NBDKIT_ASYNC_QUESTION(can_zero, bool)
  NBDKIT_ASYNC_QUESTION(can_fast_zero, bool)
  NBDKIT_ASYNC_QUESTION(can_multi_conn, bool)
  NBDKIT_ASYNC_QUESTION(can_extents, bool)
  NBDKIT_ASYNC_QUESTION(can_fua, Fua)
  NBDKIT_ASYNC_QUESTION(can_cache, Cache)
#undef NBDKIT_ASYNC_QUESTION

  static uint32_t fua(bool flush) {
    return flush ? NBDKIT_FLAG_FUA : 0;
  }

  static int read(void *conn, uint64_t reqid, bool flush, void *handle, void *buf, uint32_t count,
                  uint64_t offset) {
    return serve("read", {conn, reqid, false},
                 ReadRequest(conn, reqid, fua(flush), buf, count, offset),
                 [&](ReadRequest &&request) { of(handle).read(std::move(request)); });
  }
  static int write(void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
                   uint32_t count, uint64_t offset) {
    return serve("write", {conn, reqid, false},
                 WriteRequest(conn, reqid, fua(flush), buf, count, offset),
                 [&](WriteRequest &&request) { of(handle).write(std::move(request)); });
  }
  static int flush(void *conn, uint64_t reqid, void *handle) {
    return serve("flush", {conn, reqid, false}, FlushRequest(conn, reqid),
                 [&](FlushRequest &&request) { of(handle).flush(std::move(request)); });
  }
  static int trim(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                  uint64_t offset) {
    return serve("trim", {conn, reqid, false}, TrimRequest(conn, reqid, fua(flush), count, offset),
                 [&](TrimRequest &&request) { of(handle).trim(std::move(request)); });
  }
  static int zero(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                  uint64_t offset, uint32_t flags) {
    return serve("zero", {conn, reqid, false},
                 ZeroRequest(conn, reqid, flags | fua(flush), count, offset),
                 [&](ZeroRequest &&request) { of(handle).zero(std::move(request)); });
  }
  static int cache(void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset) {
    return serve("cache", {conn, reqid, false}, CacheRequest(conn, reqid, count, offset),
                 [&](CacheRequest &&request) { of(handle).cache(std::move(request)); });
  }
  static int extents(void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset,
                     uint32_t flags, struct nbdkit_extents *list) {
    return serve("extents", {conn, reqid, false},
                 ExtentsRequest(conn, reqid, flags, count, offset, list),
                 [&](ExtentsRequest &&request) { of(handle).extents(std::move(request)); });
  }
};

#define NBDKIT_ASYNC_TEXT(name)                                                                    \
  if constexpr (Has_##name<P>::value)                                                              \
    table.name = P::name;
#define NBDKIT_ASYNC_OF(type, field, name)                                                         \
  if constexpr (Has_##name<type>::value)                                                           \
    table.field = &Callbacks<P>::name;

template <class P> constexpr void add_plugin_callbacks(struct nbdkit_plugin &table) {
  NBDKIT_ASYNC_TEXT(longname)
  NBDKIT_ASYNC_TEXT(version)
  NBDKIT_ASYNC_TEXT(description)
  NBDKIT_ASYNC_TEXT(config_help)
  NBDKIT_ASYNC_TEXT(magic_config_key)
  NBDKIT_ASYNC_OF(P, dump_plugin, dump_plugin)
  NBDKIT_ASYNC_OF(P, config, config)
  NBDKIT_ASYNC_OF(P, thread_model, thread_model)
  NBDKIT_ASYNC_OF(P, get_ready, get_ready)
  NBDKIT_ASYNC_OF(P, after_fork, after_fork)
  NBDKIT_ASYNC_OF(P, drained, drained)
  NBDKIT_ASYNC_OF(P, cleanup, cleanup)
  NBDKIT_ASYNC_OF(P, preconnect, preconnect)
  NBDKIT_ASYNC_OF(P, list_exports, list_exports)
  NBDKIT_ASYNC_OF(P, default_export, default_export)
  if constexpr (Has_open<P>::value)
    table.close = &Callbacks<P>::close;
  table.config_complete = &Callbacks<P>::config_complete;
  table.open = &Callbacks<P>::open;
  table.unload = &Callbacks<P>::unload;
}

template <class P> constexpr void add_handle_callbacks(struct nbdkit_plugin &table) {
  using Handle = typename HandleOf<P>::type;
  static_assert(!std::is_final_v<Handle>, "an export's class must not be final");
  static_assert(Has_read<Handle>::value, "an export must have read(nbdkit::ReadRequest)");
  table.get_size = &Callbacks<P>::get_size;
  NBDKIT_ASYNC_OF(Handle, export_description, export_description)
  NBDKIT_ASYNC_OF(Handle, block_size, block_size)
  NBDKIT_ASYNC_OF(Handle, can_write, can_write)
  NBDKIT_ASYNC_OF(Handle, can_flush, can_flush)
  NBDKIT_ASYNC_OF(Handle, is_rotational, is_rotational)
  NBDKIT_ASYNC_OF(Handle, can_trim, can_trim)
  NBDKIT_ASYNC_OF(Handle, can_zero, can_zero)
  NBDKIT_ASYNC_OF(Handle, can_fast_zero, can_fast_zero)
  NBDKIT_ASYNC_OF(Handle, can_multi_conn, can_multi_conn)
  NBDKIT_ASYNC_OF(Handle, can_extents, can_extents)
  NBDKIT_ASYNC_OF(Handle, can_fua, can_fua)
  NBDKIT_ASYNC_OF(Handle, can_cache, can_cache)
  NBDKIT_ASYNC_OF(Handle, async_pread, read)
  NBDKIT_ASYNC_OF(Handle, async_pwrite, write)
  NBDKIT_ASYNC_OF(Handle, async_flush, flush)
  NBDKIT_ASYNC_OF(Handle, async_trim, trim)
  NBDKIT_ASYNC_OF(Handle, async_zero, zero)
  NBDKIT_ASYNC_OF(Handle, async_cache, cache)
  NBDKIT_ASYNC_OF(Handle, async_extents, extents)
}

#undef NBDKIT_ASYNC_TEXT
#undef NBDKIT_ASYNC_OF

template <class P> constexpr struct nbdkit_plugin table_of(const char *name) {
  static_assert(!std::is_final_v<P>, "a plugin's class must not be final");
  static_assert(std::is_default_constructible_v<P>, "a plugin's class needs P()");
  struct nbdkit_plugin table = {};
  table.name = name;
  table.instance_bytes = sizeof(P *);
  add_plugin_callbacks<P>(table);
  add_handle_callbacks<P>(table);
  return table;
}

} // namespace detail
} // namespace nbdkit

#endif // NBDKIT_ASYNC_CALLBACKS_HPP
