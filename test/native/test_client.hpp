// A client as filters meet it.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "host/context.hpp"

struct TestClient final : asyncnbd::host::CallContext {
  TestClient() : CallContext(std::make_shared<asyncnbd::host::ServerContext>([] {}), "memory", 1) {}
  void disconnect(bool) override {}

  asyncnbd::backend::Opening opening(bool is_readonly = false) {
    return {*this, name, is_readonly};
  }

  const std::string name; // of the export
};
