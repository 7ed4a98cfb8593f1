// See elf.hpp. Sections are for linkers and may be missing: this reads what the loader reads.
#include "host/elf.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string_view>
#include <unistd.h>

namespace asyncnbd::host {

namespace {

using Header = ElfW(Ehdr);
using Segment = ElfW(Phdr);
using Dynamic = ElfW(Dyn);
using Symbol = ElfW(Sym);
using Address = ElfW(Addr);

// More than any plugin has; a file that claims more is not read.
constexpr size_t MAX_SEGMENTS = 256;
constexpr size_t MAX_DYNAMIC = 4096;
constexpr size_t MAX_STRINGS_BYTES = 64 << 20;
constexpr size_t MAX_NAME_BYTES = 4096;
constexpr size_t MAX_BUCKETS = 4 << 20;
constexpr size_t MAX_SYMBOLS = 8 << 20;
constexpr size_t BATCH = 1024;

#if __SIZEOF_POINTER__ == 8
constexpr unsigned char CLASS = ELFCLASS64;
constexpr size_t BLOOM_WORD_BYTES = 8;
unsigned char binding(const Symbol &symbol) {
  return ELF64_ST_BIND(symbol.st_info);
}
#else
constexpr unsigned char CLASS = ELFCLASS32;
constexpr size_t BLOOM_WORD_BYTES = 4;
unsigned char binding(const Symbol &symbol) {
  return ELF32_ST_BIND(symbol.st_info);
}
#endif
constexpr unsigned char BYTE_ORDER_HERE =
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;

class Reader {
public:
  // Must not wait for a pipe's other end.
  explicit Reader(const std::string &path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~Reader() {
    if (fd_ != -1)
      ::close(fd_);
  }
  Reader(const Reader &) = delete;
  Reader &operator=(const Reader &) = delete;

  bool read_needed() { return read_segments() && read_dynamic() && read_needed_names(); }
  bool read_all() { return read_needed() && read_strings() && read_symbols(); }
  const ElfFacts &facts() const { return facts_; }

private:
  // Reads all of it, or returns false.
  bool at_offset(uint64_t offset, void *to, size_t bytes) const {
    auto *next = static_cast<char *>(to);
    while (bytes > 0) {
      if (offset > INT64_MAX)
        return false;
      const ssize_t done = pread(fd_, next, bytes, static_cast<off_t>(offset));
      if (done <= 0)
        return false;
      next += done;
      offset += static_cast<uint64_t>(done);
      bytes -= static_cast<size_t>(done);
    }
    return true;
  }

  // The same for an address as the loader maps it. A table lies in one segment.
  bool at_address(uint64_t address, void *to, size_t bytes) const {
    for (const Segment &segment : segments_) {
      if (segment.p_type != PT_LOAD || address < segment.p_vaddr)
        continue;
      const uint64_t inside = address - segment.p_vaddr;
      if (inside >= segment.p_filesz || bytes > segment.p_filesz - inside ||
          segment.p_offset > UINT64_MAX - inside)
        continue;
      return at_offset(segment.p_offset + inside, to, bytes);
    }
    return false;
  }

  bool read_segments() {
    Header header;
    if (fd_ == -1 || !at_offset(0, &header, sizeof header) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != CLASS ||
        header.e_ident[EI_DATA] != BYTE_ORDER_HERE ||
        (header.e_type != ET_DYN && header.e_type != ET_EXEC) ||
        header.e_phentsize != sizeof(Segment) || header.e_phnum > MAX_SEGMENTS)
      return false;
    segments_.resize(header.e_phnum);
    return at_offset(header.e_phoff, segments_.data(), segments_.size() * sizeof(Segment));
  }

  bool read_dynamic() {
    const auto found = std::find_if(segments_.begin(), segments_.end(), [](const Segment &segment) {
      return segment.p_type == PT_DYNAMIC;
    });
    if (found == segments_.end() || found->p_filesz / sizeof(Dynamic) > MAX_DYNAMIC)
      return false;
    dynamic_.resize(found->p_filesz / sizeof(Dynamic));
    if (!at_offset(found->p_offset, dynamic_.data(), dynamic_.size() * sizeof(Dynamic)))
      return false;
    dynamic_.erase(std::find_if(dynamic_.begin(), dynamic_.end(),
                                [](const Dynamic &entry) { return entry.d_tag == DT_NULL; }),
                   dynamic_.end());
    return true;
  }

  uint64_t entry(int64_t tag) const { // 0: none
    for (const Dynamic &each : dynamic_)
      if (each.d_tag == tag)
        return each.d_un.d_val;
    return 0;
  }

  // Reads them one by one: node's table of strings has 5 MB.
  bool read_needed_names() {
    const uint64_t strings = entry(DT_STRSZ);
    std::array<char, MAX_NAME_BYTES> name;
    for (const Dynamic &each : dynamic_) {
      if (each.d_tag != DT_NEEDED)
        continue;
      const uint64_t at = each.d_un.d_val;
      if (at >= strings)
        return false;
      const size_t bytes = std::min<uint64_t>(name.size(), strings - at);
      if (!at_address(entry(DT_STRTAB) + at, name.data(), bytes))
        return false;
      facts_.needed.emplace_back(name.data(), strnlen(name.data(), bytes));
    }
    return true;
  }

  bool read_strings() {
    const uint64_t bytes = entry(DT_STRSZ);
    if (bytes == 0 || bytes > MAX_STRINGS_BYTES)
      return false;
    strings_.resize(bytes);
    return at_address(entry(DT_STRTAB), strings_.data(), bytes);
  }

  std::string_view string(uint64_t at) const {
    if (at >= strings_.size())
      return {};
    const char *text = strings_.data() + at;
    return {text, strnlen(text, strings_.size() - at)};
  }

  // The file does not give the number of symbols: the loader finds them by hash.
  bool count_symbols(size_t *count) const {
    if (const uint64_t table = entry(DT_HASH)) {
      std::array<uint32_t, 2> sizes; // the numbers of buckets and of chains
      *count = 0;
      if (!at_address(table, sizes.data(), sizeof sizes))
        return false;
      *count = sizes[1];
      return true;
    }
    const uint64_t table = entry(DT_GNU_HASH);
    std::array<uint32_t, 4> head; // buckets, the first symbol, words of the filter, its shift
    if (table == 0 || !at_address(table, head.data(), sizeof head) || head[0] > MAX_BUCKETS)
      return false;
    const uint64_t buckets_at = table + sizeof head + uint64_t{head[2]} * BLOOM_WORD_BYTES;
    std::vector<uint32_t> buckets(head[0]);
    if (!at_address(buckets_at, buckets.data(), buckets.size() * sizeof(uint32_t)))
      return false;
    const auto last = std::max_element(buckets.begin(), buckets.end());
    *count = head[1];
    if (last == buckets.end() || *last < head[1])
      return true; // nothing is defined
    return end_of_chain(buckets_at + uint64_t{head[0]} * sizeof(uint32_t), head[1], *last, count);
  }

  // The last bucket's chain ends with the last symbol, whose lowest bit is set.
  bool end_of_chain(uint64_t chains_at, uint32_t first, uint64_t symbol, size_t *count) const {
    for (uint32_t hash; symbol < MAX_SYMBOLS; symbol++) {
      if (!at_address(chains_at + (symbol - first) * sizeof hash, &hash, sizeof hash))
        return false;
      if ((hash & 1) != 0) {
        *count = symbol + 1;
        return true;
      }
    }
    return false;
  }

  bool read_symbols() {
    size_t count;
    if (entry(DT_SYMTAB) == 0 || !count_symbols(&count) || count > MAX_SYMBOLS)
      return false;
    std::array<Symbol, BATCH> batch;
    for (size_t i = 0; i < count; i += BATCH) {
      const size_t symbols = std::min(BATCH, count - i);
      if (!at_address(entry(DT_SYMTAB) + i * sizeof(Symbol), batch.data(),
                      symbols * sizeof(Symbol)))
        return false;
      for (size_t j = 0; j < symbols; j++)
        note(batch[j]);
    }
    return true;
  }

  void note(const Symbol &symbol) {
    if (binding(symbol) == STB_GNU_UNIQUE && symbol.st_shndx != SHN_UNDEF)
      facts_.has_unique_symbols = true;
    if (binding(symbol) == STB_GLOBAL && symbol.st_shndx == SHN_UNDEF)
      for (const char *function : SANITIZER_FUNCTIONS)
        if (string(symbol.st_name) == function)
          facts_.sanitizer = function;
  }

  const int fd_;
  std::vector<Segment> segments_;
  std::vector<Dynamic> dynamic_;
  std::vector<char> strings_;
  ElfFacts facts_;
};

} // namespace

std::optional<ElfFacts> read_elf(const std::string &path) {
  Reader reader(path);
  if (!reader.read_all())
    return std::nullopt;
  return reader.facts();
}

std::optional<std::vector<std::string>> read_needed(const std::string &path) {
  Reader reader(path);
  if (!reader.read_needed())
    return std::nullopt;
  return reader.facts().needed;
}

} // namespace asyncnbd::host
