// See thread_locals.hpp.
#include "thread_locals.hpp"

#include <cstring>
#include <link.h>

namespace simulation {

namespace {

int look_at(dl_phdr_info *info, size_t, void *found) {
  auto *locals = static_cast<ThreadLocals *>(found);
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) &header = info->dlpi_phdr[i];
    if (header.p_type != PT_TLS)
      continue;
    locals->place = info->dlpi_tls_data;
    locals->initial.assign(header.p_memsz, 0);
    memcpy(locals->initial.data(), reinterpret_cast<void *>(info->dlpi_addr + header.p_vaddr),
           header.p_filesz);
  }
  return 1; // the program itself comes first
}

} // namespace

ThreadLocals find_thread_locals() {
  ThreadLocals locals;
  dl_iterate_phdr(look_at, &locals);
  return locals;
}

} // namespace simulation
