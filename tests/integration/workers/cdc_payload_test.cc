// From rows in notifications over the barrier into cdc, and back: what was sent is heard, also after the barrier.
#include "tests/integration/shadow/worker_process.h"
#include "tests/integration/workers/cdc_fixture.h"

namespace pgtier::testing {
namespace {

using CdcPayload = CdcFixture;

TEST_F(CdcPayload, NothingIsLostBetweenNotificationsAndTheLog) {
  Run("CREATE TABLE t (id integer PRIMARY KEY, v integer)");
  Install({"t"});
  Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'secret'");
  ServerFolder files;
  files.Write("password", "secret");
  auto options = server().Options(database_);
  options.user = std::string(shadow::kNotifyRole);
  files.Write("worker.json", WorkerConfig(files, options, "notify", spec_.policy, R"(, "delivery": "Payload")"));
  auto worker = StartWorker(files.path() + "/worker.json", files.path() + "/log");
  auto payload = [&] {
    auto state = shadow::Inspect(*sql_, spec_, Late());
    return state.has_value() ? state->payload : shadow::PayloadState{};
  };
  for (Deadline deadline = Late(); !payload().listening && !deadline.Expired();) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(payload().listening) << files.Read("log");
  Ok(shadow::SwapBodies(*sql_, spec_, shadow::Tier::kNotify, Late()));
  Ok(shadow::Deliver(*sql_, spec_, true, Late()));
  std::vector<std::jthread> writers;
  for (int i = 1; i <= 3; ++i) {
    writers.emplace_back([this, i](const std::stop_token& stop) {
      auto connection = Connect(database_);
      const std::string id = std::to_string(i);
      RunOn(connection, "INSERT INTO t VALUES (" + id + ", 0)");
      while (!stop.stop_requested()) {
        RunOn(connection, "UPDATE t SET v = v + 1 WHERE id = " + id);
        RunOn(connection, "BEGIN; UPDATE t SET v = v + 1 WHERE id = " + id + "; SELECT pg_sleep(0.02); COMMIT");
      }
    });
  }
  auto rest = [] { std::this_thread::sleep_for(std::chrono::milliseconds(400)); };
  rest();
  Climb();
  EXPECT_TRUE(payload().under_way);
  rest();
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kNotify, Late()));
  Ok(shadow::Deliver(*sql_, spec_, true, Late()));
  rest();
  writers.clear();
  AwaitEnd();
  Ok(shadow::SwapBodies(*sql_, spec_, shadow::Tier::kTriggers, Late()));
  for (Deadline deadline = Late(); !deadline.Expired();) {
    auto drained = shadow::Drained(*sql_, spec_, Late());
    ASSERT_TRUE(drained.has_value()) << drained.error().message;
    if (*drained) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_FALSE(payload().under_way) << files.Read("log");
  EXPECT_EQ(Get("SELECT string_agg(format('%s: %s', id, v), ', ') FROM (SELECT id, v, lag(v) OVER (PARTITION BY id"
                " ORDER BY epoch, position) AS was FROM t_history) AS h WHERE coalesce(was, -1) <> v - 1"),
            "");
  EXPECT_EQ(Get("SELECT count(*) FROM t WHERE v <> (SELECT max(h.v) FROM t_history AS h WHERE h.id = t.id)"), "0");
  EXPECT_EQ(Get("SELECT count(DISTINCT epoch) FROM t_history"), "3");
  EXPECT_EQ(Get("SELECT count(*) FROM pgtier.shadow_gaps"), "0");
}

}  // namespace
}  // namespace pgtier::testing
