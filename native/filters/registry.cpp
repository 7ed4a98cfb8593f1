// See registry.hpp.
#include "filters/registry.hpp"

#include <algorithm>
#include <array>

#include "filters/blocksize.hpp"
#include "filters/cache.hpp"
#include "filters/cacheextents.hpp"
#include "filters/cow.hpp"
#include "filters/delay.hpp"
#include "filters/error.hpp"
#include "filters/exitlast.hpp"
#include "filters/exitwhen.hpp"
#include "filters/exportname.hpp"
#include "filters/extentlist.hpp"
#include "filters/fua.hpp"
#include "filters/ip.hpp"
#include "filters/limit.hpp"
#include "filters/log.hpp"
#include "filters/multi_conn.hpp"
#include "filters/nocache.hpp"
#include "filters/noextents.hpp"
#include "filters/noparallel.hpp"
#include "filters/nozero.hpp"
#include "filters/offset.hpp"
#include "filters/openonce.hpp"
#include "filters/partition.hpp"
#include "filters/pause.hpp"
#include "filters/protect.hpp"
#include "filters/rate.hpp"
#include "filters/readahead.hpp"
#include "filters/readonly.hpp"
#include "filters/retry.hpp"
#include "filters/retry_request.hpp"
#include "filters/stats.hpp"
#include "filters/time_limit.hpp"
#include "filters/truncate.hpp"

namespace asyncnbd::filters {

namespace {

struct Entry {
  const char *name;
  std::unique_ptr<backend::Filter> (*make)(const FilterOptions &, const backend::Resources &,
                                           std::string *);
};

constexpr auto ENTRIES = std::to_array<Entry>({
    {"blocksize", make_blocksize},
    {"cache", make_cache},
    {"cacheextents", make_cacheextents},
    {"cow", make_cow},
    {"delay", make_delay},
    {"error", make_error},
    {"exitlast", make_exitlast},
    {"exitwhen", make_exitwhen},
    {"exportname", make_exportname},
    {"extentlist", make_extentlist},
    {"fua", make_fua},
    {"ip", make_ip},
    {"limit", make_limit},
    {"log", make_log},
    {"multi-conn", make_multi_conn},
    {"nocache", make_nocache},
    {"noextents", make_noextents},
    {"noparallel", make_noparallel},
    {"nozero", make_nozero},
    {"offset", make_offset},
    {"openonce", make_openonce},
    {"partition", make_partition},
    {"pause", make_pause},
    {"protect", make_protect},
    {"rate", make_rate},
    {"readahead", make_readahead},
    {"readonly", make_readonly},
    {"retry", make_retry},
    {"retry-request", make_retry_request},
    {"stats", make_stats},
    {"time-limit", make_time_limit},
    {"truncate", make_truncate},
});

} // namespace

std::unique_ptr<backend::Filter> make_filter(const std::string &name, const FilterOptions &options,
                                             const backend::Resources &resources,
                                             std::string *error) {
  const auto *found = std::find_if(ENTRIES.begin(), ENTRIES.end(),
                                   [&name](const Entry &entry) { return name == entry.name; });
  if (found != ENTRIES.end())
    return found->make(options, resources, error);
  *error = "there is no filter " + name;
  return nullptr;
}

} // namespace asyncnbd::filters
