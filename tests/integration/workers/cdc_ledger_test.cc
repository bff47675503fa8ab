// A ledger of what the application did, kept in its own transactions, against the histories: triggers -> cdc ->
// triggers under mixed load, with the consumer, the walsender and the server killed at random. PGTIER_LEDGER_SEEDS says
// how many seeds are tried, PGTIER_LEDGER_SEED which is the first.
#include <gtest/gtest.h>

#include <csignal>
#include <random>

#include "tests/integration/shadow/worker_process.h"
#include "tests/integration/workers/cdc_fixture.h"

namespace pgtier::testing {
namespace {

constexpr int kWriters = 4;
constexpr Duration kPhase = std::chrono::milliseconds(1500);

// One session of the application; its rows are nobody else's. `done` gets a line for each change, in its transaction.
class Writer {
 public:
  Writer(postgres::ConnectOptions options, int number, uint32_t seed)
      : options_(std::move(options)), number_(number), random_(seed * 100 + static_cast<uint32_t>(number)) {}

  void Run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      auto connection = postgres::Connection::Open(options_, Late());
      while (connection.has_value() && connection->Usable() && !stop.stop_requested()) OneTransaction(*connection);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  int transactions = 0;

 private:
  uint32_t Draw(uint32_t below) { return static_cast<uint32_t>(random_() % below); }
  // An id of this writer's, of those that exist most likely.
  std::string Id() { return std::to_string(number_ + kWriters * static_cast<int>(Draw(300))); }
  std::string Ids() { return "id % " + std::to_string(kWriters) + " = " + std::to_string(number_); }

  void OneTransaction(postgres::Connection& connection) {
    bool ok = Do(connection, "BEGIN");
    for (uint32_t i = 0, count = 1 + Draw(6); ok && i < count; ++i) {
      if (Draw(3) == 0)
        ok = Do(connection,
                "SET LOCAL app.actor = '" + std::string(Draw(2) == 0 ? "" : "actor ") + std::to_string(Draw(3)) + "'");
      const bool sub = Draw(4) == 0;
      if (sub) ok = ok && Do(connection, "SAVEPOINT s");
      ok = ok && Change(connection);
      if (sub) ok = ok && Do(connection, Draw(2) == 0 ? "ROLLBACK TO s" : "RELEASE s");
    }
    // The machine shall do something else too.
    std::this_thread::sleep_for(std::chrono::milliseconds(Draw(10)));
    if (Draw(20) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(Draw(300)));
    // A statement may fail (a key that is taken): then all of it is undone.
    Do(connection, ok && Draw(10) != 0 ? "COMMIT" : "ROLLBACK");
    ++transactions;
  }

  bool Change(postgres::Connection& connection) {
    const bool parts = Draw(2) == 0;
    const std::string t = parts ? "par" : "acc";
    const std::string what = "'" + t + "', ";
    const std::string actor = "nullif(current_setting('app.actor', true), '')";
    const std::string id = Id();
    switch (Draw(parts ? 6 : 7)) {
      case 0:
      case 1:
        return Do(connection, "WITH n AS (INSERT INTO " + t + " SELECT id, id % 3, 1, repeat('n', " +
                                  std::to_string(Draw(200)) + ") FROM generate_series(" + id + ", " + id + " + " +
                                  std::to_string(kWriters * Draw(30)) + ", " + std::to_string(kWriters) +
                                  ") AS id ON CONFLICT DO NOTHING RETURNING *) INSERT INTO done SELECT " + what +
                                  "'INSERT', " + actor + ", n.* FROM n");
      case 2:
      case 3:
        return Do(connection,
                  "WITH o AS MATERIALIZED (SELECT * FROM " + t + " WHERE " + Ids() + " AND id BETWEEN " + id + " AND " +
                      id + " + 40), n AS (UPDATE " + t +
                      " AS u SET v = u.v + 1, note = u.note || 'u' FROM o WHERE (u.id, u.part) = (o.id, o.part)"
                      " RETURNING u.id, u.part, u.v, u.note, o.id AS a, o.part AS b, o.v AS c, o.note AS d)"
                      " INSERT INTO done SELECT " +
                      what + "'UPDATE', " + actor + ", n.* FROM n");
      case 4:
        return Do(connection, "WITH n AS (DELETE FROM " + t + " WHERE " + Ids() + " AND id BETWEEN " + id + " AND " +
                                  id + " + 10 RETURNING *) INSERT INTO done SELECT " + what + "'DELETE', " + actor +
                                  ", n.* FROM n");
      case 5:
        if (!parts) return Copy(connection, actor);
        // To another part: a row goes and a row comes.
        return Do(connection, "WITH o AS MATERIALIZED (SELECT * FROM par WHERE id = " + id +
                                  "), n AS (UPDATE par AS u SET part ="
                                  " (u.part + 1) % 3 FROM o WHERE u.id = o.id AND u.part = o.part RETURNING u.*), x AS "
                                  "(INSERT INTO done SELECT " +
                                  what + "'DELETE', " + actor + ", o.* FROM o) INSERT INTO done SELECT " + what +
                                  "'INSERT', " + actor + ", n.* FROM n");
      default:  // another key
        return Do(connection,
                  "WITH o AS MATERIALIZED (SELECT * FROM acc WHERE id = " + id +
                      "), n AS (UPDATE acc AS u SET id = u.id + 400000"
                      " FROM o WHERE u.id = o.id RETURNING u.id, u.part, u.v, u.note, o.id AS a, o.part AS b, o.v"
                      " AS c, o.note AS d) INSERT INTO done SELECT " +
                      what + "'UPDATE', " + actor + ", n.* FROM n");
    }
  }

  bool Copy(postgres::Connection& connection, const std::string& actor) {
    copied_ += 1000 * kWriters;
    const int first = 10'000'000 + copied_ + number_, count = 1 + static_cast<int>(Draw(300));
    auto copy = postgres::CopyIn::Begin(connection, "COPY acc FROM STDIN", Late());
    if (!copy.has_value()) return false;
    std::string lines;
    for (int i = 0; i < count; ++i) lines += std::to_string(first + i * kWriters) + "\t0\t1\tcopied\n";
    if (!copy->Write(lines, Late()).has_value() || !copy->Finish(Late()).has_value()) return false;
    return Do(connection, "INSERT INTO done SELECT 'acc', 'INSERT', " + actor + ", " + std::to_string(first) +
                              " + i * " + std::to_string(kWriters) + ", 0, 1, 'copied' FROM generate_series(0, " +
                              std::to_string(count - 1) + ") AS i");
  }

  static bool Do(postgres::Connection& connection, const std::string& sql) {
    return connection.Execute(sql, Late()).has_value();
  }

  postgres::ConnectOptions options_;
  int number_;
  std::mt19937 random_;
  int copied_ = 0;
};

class CdcLedgerTest : public CdcFixture {
 protected:
  void StartProcess() {
    process_.reset();
    const std::string more = R"(, "slot": ")" + spec_.slot + R"(", "publication": ")" + shadow::PublicationName(spec_) +
                             R"(", "batch": {"rows": 500, "interval": "20ms"}, "spill": {"memory": "256Ki"})";
    files_.Write("password", ConsumersDatabase().password);
    files_.Write("worker.json", WorkerConfig(files_, ConsumersDatabase(), "cdc", spec_.policy, more));
    process_ = std::make_unique<WorkerProcess>(files_.path() + "/worker.json", files_.path() + "/log");
  }
  void Reconnect() {
    for (Deadline deadline = Late(); !deadline.Expired();) {
      auto connection = server().Connect(database_);
      if (connection.has_value()) {
        sql_.emplace(*std::move(connection));
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    FAIL() << "the server is not back";
  }
  // Until it works; every step may be called again.
  void Insist(const std::function<Status()>& step) {
    Status done;
    for (Deadline deadline = Late(); !deadline.Expired();) {
      done = step();
      if (done.has_value()) return;
      if (!sql_->Usable()) Reconnect();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    FAIL() << done.error().message;
  }
  void Break(std::mt19937& random) {
    switch (random() % 5) {
      case 0:
      case 1:
        process_->Kill();
        StartProcess();
        break;
      case 2:
        std::ignore =
            sql_->Query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active", Soon());
        break;
      case 3:
        std::ignore = sql_->Query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgtier-cdc-writer'",
            Soon());
        break;
      default:
        server().Signal(SIGQUIT);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        Ok(server().Restart());
        Reconnect();
    }
  }
  void Phase(std::mt19937& random) {
    for (Deadline end = Deadline::After(kPhase); !end.Expired();) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100 + random() % 500));
      Break(random);
    }
  }

  void Ledger(uint32_t seed) {
    std::mt19937 random(seed);
    Run("CREATE TABLE acc (id bigint PRIMARY KEY, part integer, v integer, note text);"
        "CREATE TABLE par (id bigint, part integer, v integer, note text, PRIMARY KEY (id, part)) PARTITION BY LIST "
        "(part);"
        "CREATE TABLE par_0 PARTITION OF par FOR VALUES IN (0); CREATE TABLE par_1 PARTITION OF par FOR VALUES IN (1);"
        "CREATE TABLE par_2 PARTITION OF par FOR VALUES IN (2);"
        "CREATE TABLE done (tab text, operation text, actor text, id bigint, part integer, v integer, note text,"
        " old_id bigint, old_part integer, old_v integer, old_note text)");
    Run("ALTER DATABASE " + database_ + " SET logical_decoding_work_mem = '64kB'");
    Install({"acc", "par"});
    std::vector<std::unique_ptr<Writer>> writers;
    for (int i = 0; i < kWriters; ++i)
      writers.push_back(std::make_unique<Writer>(server().Options(database_), i, seed));
    {
      std::vector<std::jthread> threads;
      for (auto& writer : writers) threads.emplace_back([&writer](std::stop_token stop) { writer->Run(stop); });
      for (int round = 0; round < 2; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        Insist([&] { return shadow::PrepareCdc(*sql_, spec_, Late()); });
        StartProcess();
        Insist([&] { return shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()); });
        Phase(random);
        Insist([&] { return shadow::Barrier(*sql_, spec_, shadow::Tier::kTriggers, Late()); });
        Break(random);
        AwaitEnd();
        process_->Kill();
        Insist([&] { return shadow::DropCdc(*sql_, spec_, Late()); });
      }
    }
    int transactions = 0;
    for (auto& writer : writers) transactions += writer->transactions;
    for (const std::string t : {"acc", "par"}) {
      const std::string history =
          "SELECT operation, actor, id, part, v, note, old_id, old_part, old_v, old_note FROM " + t + "_history";
      const std::string done =
          "SELECT operation, actor, id, part, v, note, old_id, old_part, old_v, old_note FROM done WHERE tab = '" + t +
          "'";
      EXPECT_EQ(Get("SELECT count(*) || ' ' || min(d::text) FROM (" + done + " EXCEPT ALL " + history + ") AS d"), "")
          << "lost of " << t;
      EXPECT_EQ(Get("SELECT count(*) || ' ' || min(d::text) FROM (" + history + " EXCEPT ALL " + done + ") AS d"), "")
          << "too many of " << t;
      // Each version follows the one before it.
      EXPECT_EQ(Get("SELECT count(*) FROM (SELECT operation, id, old_id, old_v, lag(v) OVER (PARTITION BY id, part "
                    "ORDER BY epoch,"
                    " position) AS was FROM " +
                    t +
                    "_history) AS h WHERE operation = 'UPDATE' AND id = old_id"
                    " AND was IS DISTINCT FROM old_v"),
                "0")
          << "order of " << t;
      EXPECT_EQ(Get("SELECT count(DISTINCT epoch) FROM " + t + "_history"), "5");
    }
    EXPECT_EQ(Get("SELECT string_agg(error, ' ') FROM pgtier.shadow_dead_letters"), "");
    std::cout << "seed " << seed << ": " << transactions << " transactions, " << Get("SELECT count(*) FROM done")
              << " changes, by epoch "
              << Get("SELECT string_agg(epoch || ':' || n, ' ' ORDER BY epoch) FROM (SELECT epoch, count(*) AS n FROM"
                     " (SELECT epoch FROM acc_history UNION ALL SELECT epoch FROM par_history) AS h GROUP BY 1) AS g")
              << "\n";
  }
  ServerFolder files_;
  std::unique_ptr<WorkerProcess> process_;
};

TEST_F(CdcLedgerTest, IsExactWhoeverDies) {
  auto number = [](const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : std::atoi(text);
  };
  const int first = number("PGTIER_LEDGER_SEED", 1), count = number("PGTIER_LEDGER_SEEDS", 3);
  for (int seed = first; seed < first + count && !HasFailure(); ++seed) {
    if (seed > first) {
      TearDown();
      spec_ = {};
      SetUp();
    }
    SCOPED_TRACE("seed " + std::to_string(seed));
    Ledger(static_cast<uint32_t>(seed));
    if (HasFailure()) std::cout << files_.Read("log").substr(0, 8000);
  }
}

}  // namespace
}  // namespace pgtier::testing
