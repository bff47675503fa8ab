// The ledger of tests/integration/ledger on pods: histories are what the application did, exactly, while their policy
// goes triggers → notify → cdc → notify → triggers and what stands around them is killed, stopped and deleted.
//
// Each seed is an application with six tables of its own, a ShadowTablePolicy, and eight troubles in an order of its
// own. They run beside each other on one Postgres, for they mostly wait; what befalls that, or the operator, befalls
// all. PGTIER_E2E_SEEDS: how many (3); PGTIER_E2E_SEED: the first (1).
#include <gmock/gmock.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <thread>

#include "tests/e2e/cluster.h"
#include "tests/e2e/pod_trouble.h"
#include "tests/integration/ledger/application.h"
#include "tests/integration/ledger/compare.h"

namespace pgtier::e2e {
namespace {

using pgtier::testing::Application;
using pgtier::testing::ApplicationOptions;
using pgtier::testing::Comparison;
using pgtier::testing::kLedgerActor;
using pgtier::testing::kLedgerHotRows;
using pgtier::testing::kLedgerSchema;
using pgtier::testing::kLedgerTables;
using pgtier::testing::Ledger;
using pgtier::testing::Patience;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kWriters = 6;
constexpr Duration kMoveTimeout = seconds(200);
constexpr char kInstance[] = "app-1";

unsigned Number(const char* name, unsigned otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : static_cast<unsigned>(std::atoi(text));
}

class Seed {
 public:
  // `server`: as who the application connects, and where.
  Seed(std::string name_space, const postgres::ConnectOptions& server, unsigned seed)
      : namespace_(std::move(name_space)),
        seed_(seed),
        name_("ledger-" + std::to_string(seed)),
        schema_("seed_" + std::to_string(seed)),
        server_(server),
        random_(seed),
        trouble_(namespace_, name_, kInstance, seed) {
    server_.options = "-c search_path=" + schema_;
  }

  // Fails the test with what went wrong.
  void Run() {
    began_ = std::chrono::steady_clock::now();
    try {
      Prepare();
      Move("notify", 0);
      Move("cdc", 2);
      Move("notify", 4);
      Move("triggers", 6);
      Stop();
      Compare();
    } catch (const std::exception& failed) {
      ADD_FAILURE() << "seed " << seed_ << ": " << failed.what() << "\n"
                    << Kubectl({"get", "shadowtables", name_, "-n", namespace_, "-o", "jsonpath={.status}"}, "", true)
                    << "\n"
                    << Kubectl({"logs", "-n", namespace_, "-l", "pgtier.dev/shadow-policy=" + name_, "--tail=40"}, "",
                               true);
    }
    Stop();
    const auto took = std::chrono::duration_cast<seconds>(std::chrono::steady_clock::now() - began_).count();
    std::printf("seed %u: %zu rows (%s by cdc), %ld transactions, %ld failed, %zu unknown;%s done after %ld s; %s\n",
                seed_, found_.rows, found_.of_cdc.c_str(), ledger_.transactions.load(), ledger_.failures.load(),
                ledger_.unknown.size(), reached_.c_str(), static_cast<long>(took), trouble_.story().c_str());
    std::fflush(stdout);
  }

  [[nodiscard]] const std::map<std::string, int>& counts() const { return trouble_.counts(); }
  // What its application did.
  [[nodiscard]] const Ledger& ledger() const { return ledger_; }

 private:
  void Prepare() {
    Rows("CREATE SCHEMA IF NOT EXISTS " + schema_);
    Execute(kLedgerSchema);
    Json tables = Json::array();
    for (const char* table : kLedgerTables) {
      Execute(std::string("INSERT INTO ") + table + " (id, uid, ver) SELECT i, i, 1 FROM generate_series(1, " +
              std::to_string(kLedgerHotRows) + ") AS i");
      tables.push_back({{"name", schema_ + "." + table}});
    }
    const Json by_hand{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}};
    const Json policy{
        {"apiVersion", "pgtier.dev/v1alpha1"},
        {"kind", "ShadowTablePolicy"},
        {"metadata", {{"name", name_}, {"namespace", namespace_}}},
        {"spec",
         {{"databaseRef", {{"name", "app"}}},
          {"tables", tables},
          {"actor", {{"setting", kLedgerActor}}},
          {"metrics", {{"interval", "1s"}}},
          {"tiers", Json::array({{{"name", "triggers"}},
                                 {{"name", "notify"}, {"enterWhen", by_hand}, {"workers", {{"min", 2}, {"max", 2}}}},
                                 {{"name", "cdc"}, {"slot", schema_}, {"enterWhen", by_hand}}})},
          {"transitions", {{"cooldown", "1s"}, {"down", "Automatic"}}},
          {"pin", "triggers"}}}};
    Kubectl({"apply", "-f", "-"}, policy.dump());
    Reach("triggers");
    ApplicationOptions options;
    options.prepare = seed_ % 2 == 0;
    options.pause_ms = 400;
    options.tires = false;
    for (int i = 0; i < kWriters; ++i) {
      writers_.emplace_back([this, i, options] {
        const int number = static_cast<int>(seed_) * 100 + i;
        Application(server_, ledger_, seed_ * 1000 + static_cast<unsigned>(i), number, options).Run(stop_);
      });
    }
    GoOn("triggers");
  }

  // To a tier: what is at `at` in the order befalls it on the way, the next one there.
  void Move(const std::string& tier, size_t at) {
    Kubectl({"patch", "shadowtables", name_, "-n", namespace_, "--type=merge", "-p",
             Json{{"spec", {{"pin", tier}}}}.dump()});
    Rest(0, 3000);
    trouble_.Befall(at);
    Reach(tier);
    const auto took = std::chrono::duration_cast<seconds>(std::chrono::steady_clock::now() - began_).count();
    reached_ += " " + tier + " after " + std::to_string(took) + " s,";
    Rest(200, 1000);
    trouble_.Befall(at + 1);
    GoOn(tier);
  }

  void Reach(const std::string& tier) {
    Await("it is in tier " + tier, [&] {
      const Json status = KubectlJson({"get", "shadowtables", name_, "-n", namespace_}).value("status", Json::object());
      if (status.value("tier", "") != tier || !status.value("targetTier", "").empty()) return false;
      for (const Json& condition : status.value("conditions", Json::array())) {
        if (condition["type"] == "Ready") return condition["status"] == "True";
      }
      return false;
    });
  }
  // The application gets on with its work.
  void GoOn(const std::string& tier) {
    const int64_t before = ledger_.transactions;
    Await("the application writes in tier " + tier, [&] { return ledger_.transactions > before + 20; });
  }

  void Stop() {
    stop_ = true;
    writers_.clear();
  }

  void Compare() {
    // What clients prepared and could not end.
    const std::string mine = "app " + std::to_string(seed_);
    for (const std::string& sql : Rows("SELECT format('COMMIT PREPARED %L', gid) FROM pg_prepared_xacts"
                                       " WHERE gid ~ '^" +
                                       mine + "[0-9][0-9] '")) {
      Execute(sql);
    }
    found_ = Compared(ledger_, [this](const std::string& sql) { return Rows(sql); });
    EXPECT_EQ(found_.failures, "") << "seed " << seed_;
    // Another seed's trouble may be in the way.
    Await("no dead letter is left, nor a slot", [&] {
      return Kubectl(
                 {"exec", "-n", namespace_, std::string(kInstance) + "-0", "--", "psql", "-h", "/run/postgresql", "-U",
                  "postgres", "app", "-XAtc",
                  "SELECT (SELECT count(*) FROM pgtier.shadow_dead_letters WHERE policy = '" + namespace_ + "/" +
                      name_ + "'), (SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + schema_ + "')"},
                 "", true) == "0|0";
    });
    Await("the workers are gone", [&] {
      return Kubectl({"get", "pods", "-n", namespace_, "-l", "pgtier.dev/shadow-policy=" + name_, "-o", "name"}, "",
                     true)
          .empty();
    });
  }

  // Again until it works: over a server that restarts.
  std::vector<std::string> Rows(const std::string& sql) {
    std::string error = "never tried";
    for (Deadline deadline = Deadline::After(seconds(120)); !deadline.Expired(); Rest(200, 200)) {
      if (!connection_.has_value() || !connection_->Usable()) {
        auto opened = postgres::Connection::Open(server_, Deadline::After(seconds(10)));
        if (!opened.has_value()) {
          error = opened.error().message;
          continue;
        }
        connection_.emplace(*std::move(opened));
      }
      auto rows = connection_->Query(sql, Patience());
      if (!rows.has_value()) {
        error = rows.error().message;
        continue;
      }
      std::vector<std::string> lines;
      for (const auto& row : *rows) {
        std::string& line = lines.emplace_back();
        for (size_t i = 0; i < rows->columns(); ++i) {
          if (i > 0) line += "|";
          line += row.Text(i).value_or("-");
        }
      }
      return lines;
    }
    throw std::runtime_error(sql + ": " + error);
  }
  // Once: before anything goes wrong, and after.
  void Execute(const std::string& sql) {
    Rows("SELECT 1");
    auto done = connection_->Execute(sql, Patience());
    if (!done.has_value()) throw std::runtime_error(sql + ": " + done.error().message);
  }

  void Await(const std::string& what, const std::function<bool()>& holds) {
    if (!Eventually("seed " + std::to_string(seed_) + ": " + what + " (" + trouble_.story() + ")", kMoveTimeout,
                    holds)) {
      throw std::runtime_error(what + ": it did not come to pass");
    }
  }
  int Roll(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }
  void Rest(int least_ms, int most_ms) {
    std::this_thread::sleep_for(milliseconds(least_ms + Roll(most_ms - least_ms + 1)));
  }

  const std::string namespace_;
  const unsigned seed_;
  const std::string name_, schema_;
  postgres::ConnectOptions server_;
  std::mt19937 random_;
  PodTrouble trouble_;
  std::optional<postgres::Connection> connection_;
  MonoTime began_;
  std::string reached_;  // when which tier
  Comparison found_;
  Ledger ledger_;
  std::atomic<bool> stop_ = false;
  std::vector<std::jthread> writers_;
};

class LedgerTest : public ClusterTest {
 protected:
  // Where Postgres can be reached from outside of the cluster's network, as its application.
  postgres::ConnectOptions Outside() {
    Apply({{"apiVersion", "v1"},
           {"kind", "Service"},
           {"metadata", {{"name", "outside"}}},
           {"spec",
            {{"type", "NodePort"},
             {"selector", {{"pgtier.dev/policy", "app"}, {"pgtier.dev/instance", kInstance}}},
             {"ports", Json::array({{{"port", 5432}}})}}}});
    // Where a network enforces policies, pgtier's let nobody in but what it knows.
    Apply({{"apiVersion", "networking.k8s.io/v1"},
           {"kind", "NetworkPolicy"},
           {"metadata", {{"name", "outside"}}},
           {"spec", {{"podSelector", Json::object()}, {"ingress", Json::array({Json::object()})}}}});
    postgres::ConnectOptions server;
    server.host =
        Kubectl({"get", "nodes", "-o", R"(jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address})"});
    server.port = std::atoi(
        Kubectl({"get", "service", "outside", "-n", ns(), "-o", "jsonpath={.spec.ports[0].nodePort}"}).c_str());
    server.database = server.user = "app";
    server.password =
        Kubectl({"get", "secret", "-n", ns(), "app-app", "-o", "go-template={{.data.password | base64decode}}"});
    return server;
  }
};

TEST_F(LedgerTest, HistoriesAreWhatTheApplicationDid) {
  Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
  // Large transactions are streamed; some end in two phases.
  policy["spec"]["postgres"]["managed"]["parameters"] = {
      {"logical_decoding_work_mem", "64kB"}, {"max_prepared_transactions", "64"}, {"deadlock_timeout", "100ms"}};
  Apply(policy);
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(180)));
  const postgres::ConnectOptions server = Outside();
  const unsigned first = Number("PGTIER_E2E_SEED", 1), count = Number("PGTIER_E2E_SEEDS", 3);
  std::vector<std::unique_ptr<Seed>> seeds;
  for (unsigned i = 0; i < count; ++i) seeds.push_back(std::make_unique<Seed>(ns(), server, first + i));
  {
    std::vector<std::jthread> threads;
    for (auto& seed : seeds) threads.emplace_back([&seed] { seed->Run(); });
  }
  std::map<std::string, int> counts;
  for (const auto& seed : seeds) {
    for (const auto& [what, times] : seed->counts()) counts[what] += times;
    for (const auto& [what, times] : seed->ledger().did) counts[what] += times;
  }
  for (const auto& [what, times] : counts) std::printf("  %6d %s\n", times, what.c_str());
  if (count < 3) return;
  for (const char* what :
       {"kill -9 of a worker", "deletion of a worker", "SIGSTOP of a worker", "SIGSTOP of a worker's session",
        "end of a worker's session", "kill -9 of a server process", "deletion of Postgres' pod", "kill -9 of Postgres",
        "deletion of all operators", "kill -9 of the operator that leads", "COPY", "PREPARE", "TRUNCATE",
        "ROLLBACK TO SAVEPOINT", "long", "move"}) {
    EXPECT_GT(counts[what], 0) << what << " never happened";
  }
}

}  // namespace
}  // namespace pgtier::e2e
