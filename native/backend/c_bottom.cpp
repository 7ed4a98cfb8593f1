// See c_bottom.hpp.
#include "backend/c_bottom.hpp"

#include "backend/c_backend.hpp"
#include "backend/c_exports.hpp"
#include "host/no_client.hpp"

namespace asyncnbd::backend {

bool CBottom::preconnect(bool readonly) {
  return backend::preconnect(*plugin_, context_, readonly);
}

std::optional<std::vector<ExportEntry>> CBottom::list_exports(bool readonly) {
  return backend::list_exports(*plugin_, context_, readonly);
}

std::optional<std::string> CBottom::default_export(bool readonly) {
  return backend::default_export(*plugin_, context_, readonly);
}

std::unique_ptr<Backend> CBottom::open(const std::string &export_name, bool readonly,
                                       Submitter submitter) {
  context_.export_name = context_.interns.add(export_name);
  return CBackend::open(*plugin_, context_, threads_, readonly, submitter);
}

std::shared_ptr<Bottom> CBottom::of_no_client() {
  struct OfNoClient {
    OfNoClient(const std::shared_ptr<CPlugin> &plugin, const host::CallContext &first,
               unsigned threads)
        : context(first), bottom(plugin, context, threads) {
      context.bottom = &bottom;
    }
    host::NoClient context;
    CBottom bottom;
  };
  auto made = std::make_shared<OfNoClient>(plugin_, context_, threads_);
  return {made, &made->bottom};
}

} // namespace asyncnbd::backend
