// One primary for all tests of a program that don't need their own: starting one takes about two seconds.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "tests/integration/postgres/local_server.h"

namespace pgtier::testing {

// A deadline that no healthy call reaches.
inline Deadline Soon() { return Deadline::After(std::chrono::seconds(20)); }

class WithServer : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::string why = WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
    if (shared_ == nullptr) {
      auto started = LocalPostgres::Start(ServerOptions());
      ASSERT_TRUE(started.has_value()) << started.error().message;
      shared_ = *std::move(started);
      // Ended before the program's static objects are, on which it depends.
      std::atexit([] { shared_.reset(); });
    }
  }
  // Of the first test of the program that starts one.
  virtual PostgresOptions ServerOptions() { return {}; }
  LocalPostgres& server() { return *shared_; }
  postgres::Connection Connect(const std::string& database = "postgres") {
    auto connection = server().Connect(database);
    if (!connection.has_value()) throw std::runtime_error(connection.error().message);
    return *std::move(connection);
  }

 private:
  static inline std::unique_ptr<LocalPostgres> shared_;
};

}  // namespace pgtier::testing
