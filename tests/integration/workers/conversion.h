// A history is given another shape while the consumer of cdc writes into it: not one row is lost or comes twice.
#pragma once

#include "tests/integration/shadow/partition_runs.h"
#include "tests/integration/workers/cdc_fixture.h"

namespace pgtier::testing {

// `Fixture`: CdcFixture, or made of it.
template <typename Fixture>
class Conversion : public Fixture {
 protected:
  // The history of "acc" becomes what PartsOf asks for, its session killed now and then. `made`: asks whether it is
  // that.
  void TheConsumerGoesOn(const std::string& made) {
    this->Run("CREATE TABLE acc (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v integer DEFAULT 0)");
    this->Install({"acc"});
    this->Run("INSERT INTO acc SELECT FROM generate_series(1, 20000)");
    this->Climb();
    StallProbe probe(this->server(), this->database_, "acc");
    std::jthread changes([this](const std::stop_token& stop) {
      auto connection = this->server().Connect(this->database_);
      while (connection.has_value() && !stop.stop_requested()) {
        EXPECT_TRUE(connection->Query("UPDATE acc SET v = v + 1 WHERE id % 1000 = 7", Late()).has_value());
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    });
    this->Await("SELECT count(*) > 0 FROM acc_history WHERE epoch = 2", "t");
    StepRun run = RunStep(this->server(), this->database_, PartsOf("acc_history"), 4, 5);
    EXPECT_EQ(run.error, "");
    EXPECT_EQ(this->Get(made), "t");
    const std::string seen = this->Get("SELECT max(position) FROM acc_history");
    this->Await("SELECT max(position) > " + seen + " + 100 FROM acc_history", "t");
    probe.Stop();
    changes.request_stop();
    changes.join();
    this->Descend();
    this->Run("UPDATE acc SET v = v + 1 WHERE id = 1");
    // Every row came once, and every version after the one before it.
    EXPECT_EQ(
        this->Get("SELECT count(*) FROM (SELECT id FROM acc EXCEPT ALL SELECT id FROM acc_history WHERE operation ="
                  " 'INSERT') AS lost"),
        "0");
    EXPECT_EQ(this->Get("SELECT sum(v) - (SELECT count(*) FROM acc_history WHERE operation = 'UPDATE') FROM acc"), "0");
    EXPECT_EQ(this->Get("SELECT count(*) FROM (SELECT v, operation, lag(v) OVER (PARTITION BY id ORDER BY epoch,"
                        " position) AS was FROM acc_history) AS h WHERE operation = 'UPDATE' AND v <> was + 1"),
              "0");
    EXPECT_EQ(this->Get("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0");
    EXPECT_EQ(probe.failures, 0);
    std::printf("under the consumer: %s rows, %d sessions killed, longest INSERT %.1f ms\n",
                this->Get("SELECT count(*) FROM acc_history").c_str(), run.kills, probe.LongestMs());
  }
};

}  // namespace pgtier::testing
