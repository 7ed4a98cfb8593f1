// A plugin in front of a disk in memory, of which nothing but opening is asked.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/bottom.hpp"
#include "memory_backend.hpp"
#include "system_resources.hpp"
#include "test_client.hpp"

class MemoryBottom : public asyncnbd::backend::Bottom {
public:
  MemoryBottom(MemoryDisk &disk, TestClient &client) : disk(disk), client(client) {}
  asyncnbd::host::CallContext &context() override { return client; }
  const asyncnbd::backend::Resources &resources() override {
    return asyncnbd::system_resources().of_backends;
  }
  asyncnbd::backend::ThreadModel thread_model() override {
    return asyncnbd::backend::ThreadModel::parallel;
  }
  unsigned threads() override { return 16; }
  bool preconnect(bool) override { return true; }
  std::optional<std::vector<asyncnbd::backend::ExportEntry>> list_exports(bool) override {
    return std::vector<asyncnbd::backend::ExportEntry>();
  }
  std::optional<std::string> default_export(bool) override { return ""; }
  std::unique_ptr<asyncnbd::backend::Backend> open(const std::string &, bool,
                                                   asyncnbd::backend::Submitter) override {
    return std::make_unique<MemoryBackend>(disk);
  }

protected:
  MemoryDisk &disk;
  TestClient &client;
};
