#include "tests/integration/ledger/seed.h"

#include <functional>
#include <optional>
#include <stdexcept>

#include "tests/integration/ledger/application.h"
#include "tests/integration/ledger/compare.h"
#include "tests/integration/ledger/trouble.h"

namespace pgtier::testing {
namespace {

using shadow::Tier;

constexpr int kWriters = 12;
constexpr int kManyWriters = 200;
constexpr unsigned kManyEvery = 20;  // of so many seeds, one has them
constexpr unsigned kColumnsEvery = 3;
constexpr Duration kPatience = std::chrono::seconds(400);

bool Prepares(unsigned seed) { return seed % 2 == 0; }

class Seed {
 public:
  Seed(LocalPostgres& server, unsigned seed) : server_(server), seed_(seed), random_(seed) {
    database_ = "ledger_" + std::to_string(seed);
  }

  SeedOutcome Run() {
    SeedOutcome outcome;
    const MonoTime began = std::chrono::steady_clock::now();
    try {
      Prepare();
      Work();
      Compare();
      outcome.summary = Summary(began);
    } catch (const std::exception& failed) {
      outcome.failure = failed.what();
      if (trouble_ != nullptr) outcome.failure += "\nThe workers said, at last:\n" + Tail(trouble_->WorkersLog());
    }
    End();
    outcome.counts = counts_;
    return outcome;
  }

 private:
  static std::string Tail(const std::string& log) { return log.size() > 6000 ? log.substr(log.size() - 6000) : log; }

  void Prepare() {
    Connect("postgres");
    Sql("CREATE DATABASE " + database_);
    Sql("ALTER DATABASE " + database_ + " SET logical_decoding_work_mem = '64kB'");  // small: transactions are streamed
    Connect(database_);
    Sql(kLedgerSchema);
    for (const char* table : kLedgerTables) {
      Sql(std::string("INSERT INTO ") + table + " (id, uid, ver) SELECT i, i, 1 FROM generate_series(1, " +
          std::to_string(kLedgerHotRows) + ") AS i");
      spec_.tables.push_back({table, ""});
    }
    spec_.policy = "data/" + database_;
    spec_.channel = "audit_shadow_channel";
    spec_.actor_setting = kLedgerActor;
    spec_.slot = "slot_" + database_;
    Insist("install", [&] { return shadow::Install(*operator_, spec_, Patience()); });
    Sql(std::string("ALTER ROLE pgtier_shadow_notify PASSWORD '") + kNotifyPassword + "';" +
        "ALTER ROLE pgtier_shadow_cdc PASSWORD '" + kCdcPassword + "'");
    trouble_ = std::make_unique<Trouble>(server_, database_, spec_, seed_ + 77);
  }

  void Work() {
    const bool many = seed_ % kManyEvery == 0;
    ApplicationOptions options;
    options.prepare = Prepares(seed_);
    if (many) options.pause_ms = 3000;
    stop_ = calm_ = false;
    for (int i = 0; i < (many ? kManyWriters : kWriters); ++i) {
      writers_.emplace_back([this, i, options] {
        Application(server_.Options(database_), ledger_, seed_ * 1000 + static_cast<unsigned>(i), i + 1, options)
            .Run(stop_);
      });
    }
    if (seed_ % kColumnsEvery == 0) writers_.emplace_back([this] { ChangeColumns(); });
    if (many) Await("200 clients", "SELECT count(*) >= 200 FROM pg_stat_activity WHERE application_name = 'pgtier'");
    Rest(100, 200);
    trouble_->Begin();
    To(Tier::kNotify);
    Rest(200, 500);
    if (seed_ % 4 == 1) {  // sometimes back before it is drained
      To(Tier::kTriggers);
      Rest(0, 200);
      To(Tier::kNotify);
      Rest(0, 100);
    }
    Insist("prepare cdc", [&] { return shadow::PrepareCdc(*operator_, spec_, Patience()); });
    trouble_->SetCdc(true);
    Rest(0, 200);
    Insist("into cdc", [&] { return shadow::Barrier(*operator_, spec_, Tier::kCdc, Patience()); });
    Rest(500, 900);
    Insist("out of cdc", [&] { return shadow::Barrier(*operator_, spec_, Tier::kNotify, Patience()); });
    Rest(0, 100);
    Insist("end of cdc", [&] { return Whether(shadow::CdcEnded(*operator_, spec_, Patience())); });
    trouble_->SetCdc(false);
    Insist("drop cdc", [&] { return shadow::DropCdc(*operator_, spec_, Patience()); });
    Rest(100, 300);
    To(Tier::kTriggers);
    calm_ = true;
    Rest(50, 150);
    stop_ = true;
    writers_.clear();
    trouble_->Calm();
    Resolve();
    Insist("drain", [&] { return Whether(shadow::Drained(*operator_, spec_, Patience())); });
  }

  void To(Tier tier) {
    Insist("to " + std::string(shadow::TierName(tier)),
           [&] { return shadow::SwapBodies(*operator_, spec_, tier, Patience()); });
  }

  // Columns come, are renamed and go all the while: sessions hold plans of the triggers of before, and the consumer of
  // cdc reads of columns that have other names by now.
  void ChangeColumns() {
    std::mt19937 random(seed_ + 99);
    for (int i = 0; !calm_;) {
      auto connection = server_.Connect(database_);
      for (; !calm_ && connection.has_value() && connection->Usable(); ++i) {
        std::string table = kLedgerTables[random() % 6];
        std::string n = std::to_string(i);
        for (const std::string& sql :
             {" ADD COLUMN extra_" + n + " text DEFAULT 'd'", " RENAME COLUMN extra_" + n + " TO other_" + n,
              " ALTER COLUMN other_" + n + " TYPE integer USING 1", " DROP COLUMN other_" + n}) {
          // Long transactions are in the way of most tries.
          while (
              !calm_ && connection->Usable() &&
              !connection->Execute("SET lock_timeout = '200ms'; ALTER TABLE " + table + sql, Patience()).has_value()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
          }
          if (!calm_) ++column_changes_;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 200));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  // What clients prepared and could not end.
  void Resolve() {
    auto left =
        Rows("SELECT format('COMMIT PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = '" + database_ + "'");
    for (const std::string& sql : left) Sql(sql);
  }

  void Compare() {
    const Comparison found = Compared(ledger_, [this](const std::string& sql) { return Rows(sql); });
    rows_ = found.rows;
    of_cdc_ = found.of_cdc;
    failures_ += found.failures;
    Expect("dead letters", "SELECT count(*) FROM pgtier.shadow_dead_letters", "0");
    if (!failures_.empty()) throw std::runtime_error(failures_);
  }

  // Leaves nothing behind on the server.
  void End() {
    stop_ = calm_ = true;
    writers_.clear();
    if (trouble_ != nullptr) counts_ = trouble_->counts();
    for (const auto& [what, times] : ledger_.did) counts_[what] += times;
    counts_["changes of columns"] += column_changes_;
    if (seed_ % kManyEvery == 0) ++counts_["200 clients"];
    if (operator_.has_value()) operator_.reset();
    auto last = server_.Connect();
    if (last.has_value()) std::ignore = last->Execute("DROP DATABASE " + database_ + " WITH (FORCE)", Patience());
    trouble_.reset();
  }

  std::string Summary(MonoTime began) {
    const auto took =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began).count();
    std::string text = std::to_string(rows_) + " rows (" + of_cdc_ + " by cdc), " +
                       std::to_string(ledger_.transactions) + " transactions, " + std::to_string(ledger_.failures) +
                       " failed, " + std::to_string(ledger_.unknown.size()) + " unknown, " +
                       std::to_string(took / 1000) + "." + std::to_string(took % 1000 / 100) + " s:";
    for (const auto& [what, times] : trouble_->counts()) text += " " + std::to_string(times) + " " + what + ",";
    text.pop_back();
    return text;
  }

  void Connect(const std::string& database) {
    postgres::ConnectOptions options = server_.Options(database);
    options.application_name = kOperatorName;
    for (Deadline deadline = Deadline::After(kPatience); !deadline.Expired();) {
      auto connection = postgres::Connection::Open(options, Patience());
      if (connection.has_value()) {
        operator_.emplace(*std::move(connection));
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    throw std::runtime_error("the server is not there");
  }
  // Again until it works, as the operator does: over a server that restarts, and sessions that end.
  void Insist(const std::string& what, const std::function<Status()>& step) {
    Status done;
    for (Deadline deadline = Deadline::After(kPatience); !deadline.Expired();) {
      done = step();
      if (done.has_value()) return;
      if (!operator_->Usable()) Connect(database_);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    throw std::runtime_error(what + ": " + done.error().message);
  }
  static Status Whether(const Result<bool>& answer) {
    if (!answer.has_value()) return answer.error();
    return *answer ? Status() : MakeError(Code::kUnavailable, "not yet");
  }
  void Sql(const std::string& sql) {
    Insist(sql, [&]() -> Status {
      PGTIER_RETURN_IF_ERROR(operator_->Execute(sql, Patience()));
      return {};
    });
  }
  // As lines, values between bars, NULL as "-".
  std::vector<std::string> Rows(const std::string& sql) {
    std::vector<std::string> lines;
    Insist(sql, [&]() -> Status {
      lines.clear();
      PGTIER_ASSIGN_OR_RETURN(auto rows, operator_->Query(sql, Patience()));
      for (const auto& row : rows) {
        std::string& line = lines.emplace_back();
        for (size_t i = 0; i < rows.columns(); ++i) {
          if (i > 0) line += "|";
          line += row.Text(i).value_or("-");
        }
      }
      return {};
    });
    return lines;
  }
  void Await(const std::string& what, const std::string& sql) {
    Insist(what, [&] { return Rows(sql).at(0) == "t" ? Status() : MakeError(Code::kUnavailable, "not yet"); });
  }
  void Expect(const std::string& what, const std::string& sql, const std::string& expected) {
    if (std::string found = Rows(sql).at(0); found != expected) Fail(found + " " + what);
  }
  void Fail(const std::string& what) { failures_ += what + "\n"; }
  void Rest(int least_ms, int most_ms) {
    std::this_thread::sleep_for(
        std::chrono::milliseconds(std::uniform_int_distribution<int>(least_ms, most_ms)(random_)));
  }

  LocalPostgres& server_;
  unsigned seed_;
  std::mt19937 random_;
  std::string database_, failures_, of_cdc_;
  shadow::Spec spec_;
  Ledger ledger_;
  size_t rows_ = 0;
  std::map<std::string, int> counts_;
  std::atomic<int> column_changes_ = 0;
  std::atomic<bool> stop_ = false, calm_ = false;
  std::optional<postgres::Connection> operator_;
  std::unique_ptr<Trouble> trouble_;
  std::vector<std::jthread> writers_;
};

}  // namespace

PostgresOptions SeedServer(unsigned seed) {
  PostgresOptions options;
  options.conf = {"max_connections = 260", "deadlock_timeout = 100ms", "autovacuum = off",
                  "max_prepared_transactions = " + std::string(Prepares(seed) ? "64" : "0")};
  return options;
}

SeedOutcome RunSeed(LocalPostgres& server, unsigned seed) { return Seed(server, seed).Run(); }

}  // namespace pgtier::testing
