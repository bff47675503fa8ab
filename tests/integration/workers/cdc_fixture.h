// A database with tables under a policy, and a consumer of cdc beside it.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "shadow/shadow.h"
#include "tests/integration/postgres/shared_server.h"
#include "workers/cdc/consumer.h"

namespace pgtier::testing {

inline Deadline Late() { return Deadline::After(std::chrono::seconds(60)); }

class CdcFixture : public WithServer {
 protected:
  void SetUp() override {
    WithServer::SetUp();
    if (IsSkipped()) return;
    static std::atomic<int> number = 0;
    database_ = "cdc_" + std::to_string(++number);
    auto first = Connect();
    ASSERT_TRUE(first.Execute("CREATE DATABASE " + database_, Late()).has_value());
    sql_.emplace(Connect(database_));
    spec_.policy = "test/" + database_;
    spec_.actor_setting = "app.actor";
    spec_.channel = "shadow";
    spec_.slot = "slot_" + database_;
  }
  void TearDown() override {
    consumer_.reset();
    if (!sql_.has_value()) return;
    sql_.reset();
    auto last = Connect();
    for (Deadline deadline = Late(); !deadline.Expired();) {
      auto done = last.Query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1",
                             {database_}, Soon());
      if (done.has_value()) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    // A server has as many origins as slots.
    for (Deadline deadline = Late(); !deadline.Expired();) {
      auto done = last.Query(
          "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin"
          " WHERE roname = 'pgtier_slot_' || $1::text",
          {database_}, Soon());
      if (done.has_value()) break;
    }
    std::ignore = last.Execute("DROP DATABASE " + database_ + " WITH (FORCE)", Late());
  }

  void Run(const std::string& sql) { RunOn(*sql_, sql); }
  static void RunOn(postgres::Connection& connection, const std::string& sql) {
    auto done = connection.Execute(sql, Late());
    ASSERT_TRUE(done.has_value()) << sql << ": " << done.error().message;
  }
  // The first column of the first row; "" for NULL and no row.
  std::string Get(const std::string& sql) {
    auto rows = sql_->Query(sql, Late());
    EXPECT_TRUE(rows.has_value()) << sql << ": " << rows.error().message;
    if (!rows.has_value() || rows->empty()) return "";
    return std::string((*rows)[0].Text(0).value_or(""));
  }
  void Ok(const Status& status) { ASSERT_TRUE(status.has_value()) << status.error().message; }

  // Takes tables into the policy.
  void Install(const std::vector<std::string>& sources) {
    for (const std::string& source : sources) spec_.tables.push_back({source, ""});
    Ok(shadow::Install(*sql_, spec_, Late()));
    Run("ALTER ROLE pgtier_shadow_cdc PASSWORD 'of-cdc'");
  }
  // The consumer has its own role, and no right that it was not given.
  postgres::ConnectOptions ConsumersDatabase() {
    postgres::ConnectOptions database = server().Options(database_);
    database.user = std::string(shadow::kCdcRole);
    database.password = "of-cdc";
    return database;
  }
  workers::CdcOptions Options() {
    workers::CdcOptions options;
    options.database = ConsumersDatabase();
    options.policy = spec_.policy;
    options.slot = spec_.slot;
    options.publication = shadow::PublicationName(spec_);
    options.batch_interval = std::chrono::milliseconds(10);
    options.spill.memory = size_t{64} << 10U;
    options.idle_save = std::chrono::seconds(1);
    return options;
  }
  // A consumer that runs until it is reset.
  class Running {
   public:
    explicit Running(workers::CdcOptions options)
        : consumer(std::move(options), &metrics), thread_([this](std::stop_token stop) { consumer.Run(stop); }) {}
    Metrics metrics;
    workers::CdcConsumer consumer;

   private:
    std::jthread thread_;
  };
  void StartConsumer() { StartConsumer(Options()); }
  void StartConsumer(workers::CdcOptions options) { consumer_ = std::make_unique<Running>(std::move(options)); }

  // Into cdc, with a consumer that runs.
  void Climb() {
    Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
    if (consumer_ == nullptr) StartConsumer();
    Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()));
  }
  // Back to triggers; waits until the consumer has written all that belongs to cdc.
  void Descend() {
    Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kTriggers, Late()));
    AwaitEnd();
  }
  void AwaitEnd() {
    for (Deadline deadline = Late(); !deadline.Expired();) {
      auto ended = shadow::CdcEnded(*sql_, spec_, Soon());
      ASSERT_TRUE(ended.has_value()) << ended.error().message;
      if (*ended) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL() << "the consumer did not come to the barrier: "
           << (consumer_ != nullptr ? consumer_->consumer.state().error : std::string("another process"));
  }
  // Waits until the statement gives this.
  void Await(const std::string& sql, const std::string& expected) {
    std::string last;
    for (Deadline deadline = Late(); !deadline.Expired();) {
      last = Get(sql);
      if (last == expected) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL() << sql << " is " << last << ", not " << expected
           << (consumer_ != nullptr ? "; " + consumer_->consumer.state().error : std::string());
  }
  // Waits until all that is committed now is in the history (in cdc).
  void CatchUp() {
    // Something to move the checkpoint by: a barrier of nobody's would not.
    const std::string target = Get("SELECT pg_current_wal_insert_lsn()");
    Run("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 200000))");
    Run("CREATE TABLE IF NOT EXISTS caught_up (n integer); DROP TABLE caught_up");
    Await("SELECT lsn >= '" + target + "' FROM pgtier.shadow_checkpoint WHERE policy = '" + spec_.policy + "'", "t");
  }

  std::string database_;
  shadow::Spec spec_;
  std::optional<postgres::Connection> sql_;
  std::unique_ptr<Running> consumer_;
};

}  // namespace pgtier::testing
