// See filter_place.hpp.
#include "cplugin/filter_place.hpp"

#include <cstring>
#include <map>
#include <utility>

#include "cplugin/filter_layer.hpp"
#include "host/context.hpp"
#include "host/exports_list.hpp"
#include "host/log.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::cplugin {

namespace {

using backend::ExportEntry;
using backend::Level;

// A filter may use the pointer that it was given only during that call.
bool is_in_call(const Level &level) {
  if (level.bottom != nullptr)
    return true;
  nbdkit_error("a filter asks what is behind it outside of its client's call");
  return false;
}

int next_preconnect(nbdkit_backend *nxdata, int readonly) {
  const Level level = nxdata->level();
  return is_in_call(level) && level.preconnect(readonly != 0) ? 0 : -1;
}

int next_list_exports(nbdkit_backend *nxdata, int readonly, nbdkit_exports *exports) {
  const Level level = nxdata->level();
  if (!is_in_call(level))
    return -1;
  const auto listed = level.list_exports(readonly != 0);
  if (!listed)
    return -1;
  for (const ExportEntry &entry : *listed) {
    const char *description = entry.description.empty() ? nullptr : entry.description.c_str();
    if (nbdkit_add_export(exports, entry.name.c_str(), description) == -1)
      return -1;
  }
  return 0;
}

// The name is kept as long as the client, because filters keep pointers to it.
const char *next_default_export(nbdkit_backend *nxdata, int readonly) {
  const Level level = nxdata->level();
  if (!is_in_call(level))
    return nullptr;
  const auto name = level.default_export(readonly != 0);
  return name ? level.bottom->context().interns.add(*name) : nullptr;
}

// The client's context, which from now on knows the bottom of its chain.
host::CallContext &context_of(const Level &behind) {
  host::CallContext &context = behind.bottom->context();
  if (context.bottom != behind.bottom) // other threads may read it once requests arrive
    context.bottom = behind.bottom;
  return context;
}

class FilterPlace final : public backend::OpeningFilter {
public:
  explicit FilterPlace(std::shared_ptr<CFilter> filter) : filter_(std::move(filter)) {}

  const char *name() const override { return filter_->name().c_str(); }
  backend::ThreadModel thread_model() const override { return filter_->thread_model(); }
  void placed(const Level &behind) override { backend_ = &filter_->placed(behind); }

  std::unique_ptr<backend::Backend> open_in_front(const Level &behind,
                                                  const std::string &export_name, bool readonly,
                                                  std::string *error) override {
    context_of(behind);
    return FilterLayer::open(*filter_, *backend_, behind, export_name, readonly, error);
  }
  bool preconnect(const Level &behind, bool readonly) override;
  std::optional<std::vector<ExportEntry>> list_exports(const Level &behind, bool readonly) override;
  std::optional<std::string> default_export(const Level &behind, bool readonly) override;

private:
  const std::shared_ptr<CFilter> filter_;
  nbdkit_backend *backend_ = nullptr; // of its place, which is set before it is used
};

bool FilterPlace::preconnect(const Level &behind, bool readonly) {
  host::ContextScope scope(&context_of(behind));
  host::log_control("%s: preconnect", name());
  const auto callback = filter_->table().preconnect;
  return (callback != nullptr ? callback(next_preconnect, backend_, readonly)
                              : next_preconnect(backend_, readonly)) != -1;
}

std::optional<std::vector<ExportEntry>> FilterPlace::list_exports(const Level &behind,
                                                                  bool readonly) {
  host::CallContext &context = context_of(behind);
  host::ContextScope scope(&context);
  host::log_control("%s: list_exports readonly=%d tls=%d", name(), readonly, context.tls);
  const auto callback = filter_->table().list_exports;
  if (callback == nullptr)
    return behind.list_exports(readonly);
  nbdkit_exports exports;
  if (callback(next_list_exports, backend_, readonly, context.tls, &exports) == -1)
    return std::nullopt;
  std::vector<ExportEntry> entries;
  for (const nbdkit_exports::Entry &entry : exports.entries) {
    std::optional<std::string> listed = entry.name;
    if (entry.is_default)
      listed = default_export(behind, readonly);
    if (listed)
      entries.push_back({*listed, entry.description.value_or("")});
  }
  return entries;
}

// Asked once for each client. A name that is too long counts as none.
std::optional<std::string> FilterPlace::default_export(const Level &behind, bool readonly) {
  host::CallContext &context = context_of(behind);
  if (auto found = context.default_exports_in_front.find(behind.index);
      found != context.default_exports_in_front.end())
    return found->second;
  host::ContextScope scope(&context);
  host::log_control("%s: default_export readonly=%d tls=%d", name(), readonly, context.tls);
  std::optional<std::string> answer;
  if (const auto callback = filter_->table().default_export) {
    const char *text = callback(next_default_export, backend_, readonly, context.tls);
    if (text != nullptr && strlen(text) <= wire::MAX_STRING_BYTES)
      answer = text;
  } else {
    answer = behind.default_export(readonly);
  }
  if (answer)
    context.default_exports_in_front[behind.index] = *answer;
  return answer;
}

} // namespace

std::unique_ptr<backend::OpeningFilter> make_filter_place(std::shared_ptr<CFilter> filter) {
  return std::make_unique<FilterPlace>(std::move(filter));
}

} // namespace asyncnbd::cplugin

// ---- what filters call -------------------------------------------------------------------------

using asyncnbd::cplugin::Next;

extern "C" {

NBDKIT_DLL_PUBLIC nbdkit_backend *nbdkit_context_get_backend(nbdkit_context *context) {
  return &context->layer->backend();
}

NBDKIT_DLL_PUBLIC nbdkit_next *nbdkit_next_context_open(nbdkit_backend *backend, int readonly,
                                                        const char *exportname, int shared) {
  asyncnbd::backend::Level level = backend->level();
  std::shared_ptr<asyncnbd::backend::Bottom> of_no_client;
  if (shared != 0 && level.bottom != nullptr) {
    of_no_client = level.bottom->of_no_client();
    level.bottom = of_no_client.get();
  }
  if (level.bottom == nullptr) {
    nbdkit_error(
        "nbdkit_next_context_open: only in a client's call, and in front of a plugin in C if "
        "it is not for that client, as yet");
    return nullptr;
  }
  std::string error;
  Next *next = Next::open(level, exportname, readonly != 0, std::move(of_no_client), &error);
  if (!error.empty())
    nbdkit_error("%s", error.c_str());
  return next;
}

NBDKIT_DLL_PUBLIC void nbdkit_next_context_close(nbdkit_next *next) {
  if (next != nullptr)
    Next::of(next).close();
}

NBDKIT_DLL_PUBLIC nbdkit_next *nbdkit_context_set_next(nbdkit_context *context, nbdkit_next *next) {
  return context->layer->set_next(next != nullptr ? &Next::of(next) : nullptr);
}

} // extern "C"
