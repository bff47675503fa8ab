#include "migrations/runner.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "lib/base/log.h"
#include "lib/base/time_format.h"
#include "lib/postgres/catalogue.h"
#include "lib/postgres/sqlstate.h"
#include "migrations/ledger.h"
#include "migrations/waits.h"

namespace pgtier::migrations {
namespace {

using postgres::Connection;

constexpr Duration kPatience = std::chrono::seconds(10);        // for what is quick
constexpr Duration kAdvanceLimit = std::chrono::hours(24 * 7);  // an index may take a day; `stop` ends it sooner
constexpr Duration kGrace = std::chrono::seconds(8);            // for the batch that runs when told to stop
constexpr Duration kThrottled = std::chrono::seconds(1);        // between two looks
constexpr Duration kLongWait = std::chrono::seconds(3);         // for a lock, before it is told
constexpr int kTries = 8;                                       // for what is neither a lock nor a person's to mend
constexpr size_t kMostResult = 4000;                            // of a container's termination message are kept

bool IsLock(const Error& error) {
  std::string_view state = postgres::SqlStateOf(error);
  return state == "55P03" || state == "40P01" || state == "40001";
}

bool MayPass(const Error& error) {
  std::string_view state = postgres::SqlStateOf(error);
  return error.code == Code::kUnavailable || error.code == Code::kResourceExhausted || state == "57014" ||
         state == "25006";
}

// Of the steps, with what they need between two calls.
struct Running {
  const StepConfig& config;
  Step& step;
  Entry entry;
  MonoTime began{};
  int64_t finished_before = 0;

  [[nodiscard]] double Rate(int64_t finished) const {
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    return seconds < 1 ? 0 : static_cast<double>(finished - finished_before) / seconds;
  }
};

class Runner {
 public:
  Runner(Config config, const std::map<std::string, MakeStep>& kinds, std::stop_token stop)
      : config_(std::move(config)), kinds_(kinds), stop_(std::move(stop)), ledger_(config_.migration) {}

  int Run() {
    for (const StepConfig& step : config_.steps) {
      auto kind = kinds_.find(step.kind);
      if (kind == kinds_.end()) return Refuse("step " + step.name + ": this program has no " + step.kind);
      auto made = kind->second(step);
      if (!made.has_value()) return Refuse(made.error().message);
      steps_.push_back(*std::move(made));
    }
    // What runs on the server when told to stop is left a while to end.
    std::stop_callback on_stop(stop_, [this] { grace_from_ = std::chrono::steady_clock::now().time_since_epoch(); });
    std::jthread reaper([this](const std::stop_token& over) {
      while (SleepFor(std::chrono::milliseconds(200), over)) {
        auto from = grace_from_.load();
        if (from != Duration::zero() && std::chrono::steady_clock::now().time_since_epoch() - from > kGrace) {
          hard_stop_.request_stop();
        }
      }
    });
    for (int tries = 0;;) {
      MonoTime began = std::chrono::steady_clock::now();
      Result<int> ended = Session();
      if (ended.has_value()) return *ended;
      if (stop_.stop_requested()) return Stopped();
      const Error& error = ended.error();
      if (std::chrono::steady_clock::now() - began > std::chrono::minutes(1)) tries = 0;
      bool tried_enough = ++tries >= kTries;
      log::Warn("the database does not serve", {{"error", error.message}, {"try", static_cast<long long>(tries)}});
      if (tried_enough) {
        WriteResult(error.message);
        return kExitTryAgain;
      }
      if (!SleepFor(PauseBeforeTry(tries), stop_)) return Stopped();
    }
  }

 private:
  static int Stopped() {
    log::Info("told to stop; what is done stays done");
    return kExitStopped;
  }
  int Refuse(const std::string& why) {
    log::Error("the migration can't run", {{"error", why}});
    WriteResult(why);
    return kExitRefused;
  }
  void WriteResult(std::string text) const {
    if (config_.result_file.empty()) return;
    if (text.size() > kMostResult) text = text.substr(0, kMostResult) + "\n… see the log of the pod";
    std::ofstream file(config_.result_file);
    file << text;
    if (!file.flush()) log::Warn("can't write the result", {{"file", config_.result_file}});
  }

  // One connection's life. An error: it may pass, and another one is tried.
  Result<int> Session() {
    PGTIER_ASSIGN_OR_RETURN(auto options, settings::ConnectOptionsOf(config_.database, "pgtier-migrate"));
    // The steps are people's: names without a schema are those of public. (The last of two settings counts.)
    postgres::ConnectOptions of_steps = options;
    of_steps.options += " -c search_path=public";
    PGTIER_ASSIGN_OR_RETURN(auto connection,
                            Connection::Open(of_steps, Deadline::After(kPatience), hard_stop_.get_token()));
    PGTIER_RETURN_IF_ERROR(Prepare(connection));
    if (config_.dry_run) return DryRun(connection);
    PGTIER_RETURN_IF_ERROR(Ledger::Prepare(connection, Deadline::After(kPatience)));
    PGTIER_ASSIGN_OR_RETURN(bool alone, AwaitLock(connection));
    if (!alone) return Stopped();
    PGTIER_ASSIGN_OR_RETURN(auto entries, ReadLedger(connection, config_.migration, Deadline::After(kPatience)));
    for (const StepConfig& step : config_.steps) {
      std::string edited = WhyEdited(step, entries[step.name]);
      if (edited.empty()) continue;
      log::Error("a step was edited", {{"step", step.name}, {"error", edited}});
      WriteResult(edited);
      return kExitFailed;
    }
    LockWatch watch(options, std::min<Duration>(config_.lock_timeout / 4, std::chrono::milliseconds(100)));
    for (size_t i = 0; i < config_.steps.size(); ++i) {
      Running running{config_.steps[i], *steps_[i], entries[config_.steps[i].name]};
      if (running.entry.state == State::kDone) continue;
      PGTIER_ASSIGN_OR_RETURN(int ended, RunStep(connection, watch, running, i));
      if (ended != kExitDone) return ended;
    }
    log::Info("every step is done", {{"migration", config_.migration}});
    return kExitDone;
  }

  Status Prepare(Connection& connection) const {
    PGTIER_ASSIGN_OR_RETURN(
        auto rows, connection.Query("SELECT pg_catalog.pg_is_in_recovery() AS standby", Deadline::After(kPatience)));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(bool standby, row.Get<bool>("standby"));
    if (standby) return MakeError(Code::kUnavailable, "the server is a standby");
    auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(config_.lock_timeout).count();
    std::string settings = "SET lock_timeout = " + std::to_string(std::max<int64_t>(1, milliseconds)) +
                           "; SET idle_in_transaction_session_timeout = '60s'";
    PGTIER_RETURN_IF_ERROR(connection.Execute(settings, Deadline::After(kPatience)));
    // A server whose runner was killed in a long statement finds out by this. Not every platform has it.
    std::ignore = connection.Execute("SET client_connection_check_interval = '2s'", Deadline::After(kPatience));
    return {};
  }

  // False: told to stop meanwhile.
  Result<bool> AwaitLock(Connection& connection) {
    bool told = false;
    while (!stop_.stop_requested()) {
      PGTIER_ASSIGN_OR_RETURN(
          bool locked, postgres::TryAdvisoryLock(connection, LockOf(config_.migration), Deadline::After(kPatience)));
      if (locked) return true;
      if (!std::exchange(told, true)) {
        log::Info("another pgtier-migrate runs this migration; waiting for its end",
                  {{"migration", config_.migration}});
      }
      SleepFor(std::chrono::milliseconds(500), stop_);
    }
    return false;
  }

  Result<int> DryRun(Connection& connection) {
    PGTIER_ASSIGN_OR_RETURN(auto entries, ReadLedger(connection, config_.migration, Deadline::After(kPatience)));
    std::string text;
    for (size_t i = 0; i < config_.steps.size(); ++i) {
      const StepConfig& step = config_.steps[i];
      const Entry& entry = entries[step.name];
      std::string head = std::to_string(i + 1) + " " + step.name + ": ";
      std::string edited = WhyEdited(step, entry);
      if (!edited.empty() || entry.state == State::kDone) {
        text += head + (edited.empty() ? "done already" : edited) + "\n";
        continue;
      }
      PGTIER_ASSIGN_OR_RETURN(auto transaction,
                              postgres::Transaction::Begin(connection, Deadline::After(kPatience), "READ ONLY"));
      auto lines = steps_[i]->Plan(connection, Deadline::After(std::chrono::minutes(1)));
      if (!lines.has_value()) {
        if (MayPass(lines.error())) return lines.error();
        // A later step may build on an earlier one that has not run.
        lines = std::vector<std::string>{"can't be told before the steps above have run: " + lines.error().message};
      }
      std::ignore = transaction.Rollback(Deadline::After(kPatience));
      for (const std::string& line : *lines) text += head + line + "\n";
    }
    log::Info("dry run: nothing was changed", {{"plan", text}});
    WriteResult(text);
    return kExitDone;
  }

  // kExitDone: the step is done.
  Result<int> RunStep(Connection& connection, LockWatch& watch, Running& running, size_t position) {
    const std::string& name = running.config.name;
    log::Info("step begins", {{"step", name}});
    PGTIER_RETURN_IF_ERROR(ledger_.Begin(connection, running.config, position, Deadline::After(kPatience)));
    running.began = std::chrono::steady_clock::now();
    running.finished_before = running.entry.progress.finished;
    StepState state = running.entry.saved;
    int locked = 0;
    int failed = 0;
    SaveCheckpoint save = [&](const StepState& now, const Progress& progress, Deadline deadline) -> Status {
      PGTIER_RETURN_IF_ERROR(ledger_.Save(connection, name, now, progress, running.Rate(progress.finished), deadline));
      state = now;
      return {};
    };
    std::string said;
    auto say = [&](const std::string& what) -> Status {
      if (std::exchange(said, what) == what) return {};
      log::Info(what, {{"step", name}});
      return ledger_.Say(connection, name, what, Deadline::After(kPatience));
    };
    while (!stop_.stop_requested()) {
      PGTIER_ASSIGN_OR_RETURN(auto throttled, WhyThrottled(connection, config_.throttle, Deadline::After(kPatience)));
      if (!throttled.empty()) {
        PGTIER_RETURN_IF_ERROR(say(throttled));
        SleepFor(kThrottled, stop_);
        continue;
      }
      Result<Progress> advanced = Advance(connection, watch, running, state, save);
      if (advanced.has_value()) {
        locked = 0;
        failed = 0;
        if (advanced->done) {
          PGTIER_RETURN_IF_ERROR(ledger_.Finish(connection, name, Deadline::After(kPatience)));
          log::Info("step is done", {{"step", name}});
          return kExitDone;
        }
        PGTIER_RETURN_IF_ERROR(say(advanced->message));
        continue;
      }
      Error error = advanced.error();
      if (!connection.Usable() || stop_.stop_requested()) return error;
      // The transaction is gone, and with it what the step thought that it had stored.
      PGTIER_ASSIGN_OR_RETURN(auto entries, ReadLedger(connection, config_.migration, Deadline::After(kPatience)));
      state = entries[name].saved;
      if (IsLock(error)) {
        std::string holder = watch.Holder();
        Duration pause = PauseBeforeTry(++locked);
        PGTIER_RETURN_IF_ERROR(say("LockHeld: step " + name + " waits for a lock that " +
                                   (holder.empty() ? "another session" : holder) + " holds; tried " +
                                   std::to_string(locked) + (locked == 1 ? " time" : " times") + ", each for at most " +
                                   FormatDuration(config_.lock_timeout)));
        SleepFor(pause, stop_);
        continue;
      }
      if (MayPass(error) && ++failed < kTries) {
        PGTIER_RETURN_IF_ERROR(say("TriedAgain: step " + name + ": " + error.message));
        SleepFor(PauseBeforeTry(failed), stop_);
        continue;
      }
      if (MayPass(error)) return error;
      log::Error("step failed", {{"step", name}, {"error", error.message}});
      std::string why = "step " + name + ": " + error.message;
      PGTIER_RETURN_IF_ERROR(ledger_.Fail(connection, name, why, Deadline::After(kPatience)));
      WriteResult(why);
      return kExitFailed;
    }
    return Stopped();
  }

  // A batch, and beside it somebody who tells of a lock that is waited for without a limit.
  Result<Progress> Advance(Connection& connection, LockWatch& watch, Running& running, StepState& state,
                           const SaveCheckpoint& save) {
    watch.Watch(connection.BackendPid());
    std::jthread teller([&](const std::stop_token& over) {
      bool told = false;
      while (SleepFor(std::chrono::milliseconds(500), over)) {
        if (watch.HeldUpFor() < kLongWait || told) continue;
        told = true;
        TellLongWait(running.config.name, watch.Holder());
      }
    });
    Result<Progress> advanced = running.step.Advance(connection, state, save, Deadline::After(kAdvanceLimit));
    watch.Watch(0);
    return advanced;
  }

  // On a connection of its own: the runner's waits.
  void TellLongWait(const std::string& step, const std::string& holder) const {
    auto options = settings::ConnectOptionsOf(config_.database, "pgtier-migrate");
    if (!options.has_value()) return;
    auto connection = Connection::Open(*options, Deadline::After(kPatience));
    if (!connection.has_value()) return;
    std::ignore = connection->Execute("SET lock_timeout = '100ms'", Deadline::After(kPatience));
    std::string what = "LockHeld: step " + step + " waits, without holding anybody up, for " + holder;
    log::Info(what, {{"step", step}});
    std::ignore = ledger_.Say(*connection, step, what, Deadline::After(kPatience));
  }

  Config config_;
  const std::map<std::string, MakeStep>& kinds_;
  std::stop_token stop_;
  std::stop_source hard_stop_;
  std::atomic<Duration> grace_from_{Duration::zero()};
  Ledger ledger_;
  std::vector<std::unique_ptr<Step>> steps_;
};

}  // namespace

int RunMigration(const std::string& config_path, const std::map<std::string, MakeStep>& kinds,
                 const std::stop_token& stop) {
  auto text = settings::ReadFile(config_path);
  auto config = text.has_value() ? ParseConfig(*text) : Result<Config>(text.error());
  if (!config.has_value()) {
    log::Error("the configuration can't be used", {{"error", config.error().message}});
    return kExitRefused;
  }
  return Runner(*std::move(config), kinds, stop).Run();
}

}  // namespace pgtier::migrations
