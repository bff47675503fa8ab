// Shadow tables: what auditing costs who writes, and how fast the workers are. Both sides of a ratio take turns on the
// same server, a real Postgres 17 with fsync on; figures are medians.
//
// shadow_bench <pgtier-worker> <folder for the JSON>
// PGTIER_BENCH_SHADOW=overhead,cdc,notify,latency,large   some of them (all but large: a transaction of 10 M rows)
// PGTIER_BENCH_SECONDS=5   of each run of pgbench; PGTIER_BENCH_ROWS=200000   of a backlog; PGTIER_BENCH_TURNS=5
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "bench/report.h"
#include "shadow/shadow.h"
#include "tests/integration/postgres/local_server.h"

// The worker under test is the program that is given, not one that CMake knows.
static const char* g_worker_program = "";
#define PGTIER_WORKER_PROGRAM g_worker_program
#include "tests/integration/shadow/worker_process.h"

namespace pgtier::bench {
namespace {

using shadow::Tier;
using Clock = std::chrono::steady_clock;

Deadline Long() { return Deadline::After(std::chrono::minutes(20)); }

int Number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::atoi(text);
}
bool Wanted(const std::string& part, bool otherwise) {
  const char* text = std::getenv("PGTIER_BENCH_SHADOW");
  if (text == nullptr || *text == '\0') return otherwise;
  return ("," + std::string(text) + ",").find("," + part + ",") != std::string::npos;
}
double Seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }
double Median(const std::vector<double>& samples) { return Quantile(samples, 0.5); }

// A run of pgbench.
struct Load {
  double tps = 0, p99_ms = 0, cpu_us = 0;  // of the server's processes that served it, a transaction
};

class Bench {
 public:
  Bench(std::string folder, Report& report) : results_(std::move(folder)), report_(report) {
    testing::PostgresOptions options;
    options.conf = {"fsync = on",
                    "shared_buffers = 512MB",
                    "max_wal_size = 4GB",
                    "autovacuum = off",
                    "track_commit_timestamp = on",
                    "max_connections = 60",
                    "wal_compression = off",
                    "log_checkpoints = off",
                    "max_prepared_transactions = 0"};
    auto started = testing::LocalPostgres::Start(options);
    if (!started.has_value()) throw std::runtime_error(started.error().message);
    server_ = *std::move(started);
    auto connection = server_->Connect();
    if (!connection.has_value()) throw std::runtime_error(connection.error().message);
    sql_.emplace(*std::move(connection));
    for (const char* table : {"none", "naive_trigger", "naive_notify", "triggers", "notify", "cdc"}) {
      Run("CREATE TABLE t_" + std::string(table) +
          " (id bigserial PRIMARY KEY, name text NOT NULL, amount integer NOT NULL, changed timestamptz DEFAULT "
          "now())");
    }
    Run("CREATE TABLE naive_history (at timestamptz, operation text, new_row jsonb, old_row jsonb)");
    Run("CREATE FUNCTION naive_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO naive_history VALUES"
        " (clock_timestamp(), TG_OP, to_jsonb(NEW), to_jsonb(OLD)); RETURN NULL; END $$;"
        "CREATE FUNCTION naive_notify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('naive',"
        " jsonb_build_object('op', TG_OP, 'new', to_jsonb(NEW), 'old', to_jsonb(OLD))::text); RETURN NULL; END $$;"
        "CREATE TRIGGER naive AFTER INSERT OR UPDATE OR DELETE ON t_naive_trigger FOR EACH ROW EXECUTE FUNCTION"
        " naive_trigger(); CREATE TRIGGER naive AFTER INSERT OR UPDATE OR DELETE ON t_naive_notify FOR EACH ROW EXECUTE"
        " FUNCTION naive_notify()");
    for (const char* tier : {"triggers", "notify", "cdc"}) {
      shadow::Spec& spec = specs_[tier];
      spec.policy = std::string("bench/") + tier;
      spec.channel = "bench_channel";
      spec.actor_setting = "app.actor";
      spec.slot = std::string(tier) == "cdc" ? "bench" : "";
      spec.tables = {{std::string("t_") + tier, ""}};
      Ok(shadow::Install(*sql_, spec, Long()));
    }
    Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'secret'; ALTER ROLE pgtier_shadow_cdc PASSWORD 'secret'");
    files_.Write("password", "secret");
    Ok(shadow::SwapBodies(*sql_, specs_["notify"], Tier::kNotify, Long()));
    Ok(shadow::PrepareCdc(*sql_, specs_["cdc"], Long()));
    Ok(shadow::Barrier(*sql_, specs_["cdc"], Tier::kCdc, Long()));
  }

  void Overhead() {
    const int turns = Number("PGTIER_BENCH_TURNS", 5), seconds = Number("PGTIER_BENCH_SECONDS", 5);
    auto notify = Worker("notify"), cdc = Worker("cdc");
    const std::vector<std::string> tables = {"none", "naive_trigger", "naive_notify", "triggers", "notify", "cdc"};
    for (int clients : {1, 8}) {
      std::map<std::string, std::vector<double>> tps, ratio, p99, cpu;
      for (int turn = 0; turn < turns; ++turn) {
        for (const std::string& table : tables) {
          Load load = PgBench(table, clients, seconds, 0, "");
          tps[table].push_back(load.tps);
          p99[table].push_back(load.p99_ms);
          cpu[table].push_back(load.cpu_us);
          ratio[table].push_back(100 * load.tps / tps["none"].back());
        }
      }
      for (const std::string& table : tables) {
        const std::string what = std::to_string(clients) + (clients == 1 ? " client, " : " clients, ") + table;
        report_.Add(
            {what + ": transactions of one INSERT, of no trigger's", Median(ratio[table]), "%", {}, "", ratio[table]});
        report_.Add({what + ": transactions a second", Median(tps[table]), "/s", {}, "", tps[table]});
        report_.Add({what + ": p99", Median(p99[table]), "ms", {}, "", p99[table]});
        report_.Add({what + ": CPU of the backend a transaction", Median(cpu[table]), "us", {}, "", cpu[table]});
      }
    }
  }

  void Cdc() {
    const int rows = Number("PGTIER_BENCH_ROWS", 200'000);
    Run("SELECT pg_create_logical_replication_slot('peer', 'pgoutput')");
    std::vector<double> ours, peers, ratio;
    for (int turn = 0; turn < Number("PGTIER_BENCH_TURNS", 5); ++turn) {
      CatchUp();
      Backlog("t_cdc", rows);
      const std::string end = Get("SELECT pg_current_wal_flush_lsn()");
      auto began = Clock::now();
      Tool({"pg_recvlogical", "-d", "postgres", "-S", "peer", "--start", "-f", "/dev/null", "--endpos", end, "-o",
            "proto_version=2", "-o", "publication_names=pgtier_bench", "--no-loop"});
      peers.push_back(rows / Seconds(began));
      began = Clock::now();
      auto worker = Worker("cdc");
      Await("SELECT count(*) = (SELECT count(*) FROM t_cdc) FROM t_cdc_history WHERE operation = 'INSERT'",
            "SELECT lsn >= '" + end + "' FROM pgtier.shadow_checkpoint WHERE policy = 'bench/cdc'");
      ours.push_back(rows / Seconds(began));
      ratio.push_back(ours.back() / peers.back());
      if (turn == 0) report_.Add("cdc: the worker's peak of memory", PeakMib(*worker), "MiB");
    }
    Run("SELECT pg_drop_replication_slot('peer')");
    report_.Add({"cdc: rows/s from the log into the history, 100-row transactions", Median(ours), "/s", {}, "", ours});
    report_.Add({"pg_recvlogical -f /dev/null: rows/s", Median(peers), "/s", {}, "", peers});
    report_.Add({"cdc of pg_recvlogical", Median(ratio), "x", {}, "at least 1.5", ratio});
  }

  void Notify() {
    const int rows = Number("PGTIER_BENCH_ROWS", 200'000);
    std::vector<double> rates;
    for (int turn = 0; turn < Number("PGTIER_BENCH_TURNS", 5); ++turn) {
      Backlog("t_notify", rows);
      auto began = Clock::now();
      auto worker = Worker("notify");
      Await("", "SELECT NOT EXISTS (SELECT FROM " +
                    Get("SELECT 'pgtier.outbox_' || id FROM pgtier.shadow_tables"
                        " WHERE policy = 'bench/notify'") +
                    ")");
      rates.push_back(rows / Seconds(began));
    }
    report_.Add({"notify: rows/s from the outbox into the history, one worker",
                 Median(rates),
                 "/s",
                 {},
                 "at least 50000",
                 rates});
  }

  // From a change's commit to when its row of the history is seen, by somebody who looks about once a millisecond.
  // (Commit timestamps say nothing of a session that has an origin: they stay those of its first commit.)
  void Latency() {
    CatchUp();
    Run("CREATE INDEX ON t_cdc_history (id)");
    const int seconds = 2 * Number("PGTIER_BENCH_SECONDS", 5);
    for (const char* interval : {"100ms", "1ms"}) {
      for (const char* commit : {"on", "off"}) {
        auto worker = Worker("cdc", interval);
        Run("INSERT INTO t_cdc (name, amount) VALUES ('first', 0)");
        const std::string from = Get("SELECT max(id) FROM t_cdc");
        Await("", "SELECT max(id) >= " + from + " FROM t_cdc_history");
        std::vector<std::pair<int64_t, double>> seen;
        {
          std::jthread watch([&](const std::stop_token& stop) {
            auto eye = server_->Connect();
            while (eye.has_value() && !stop.stop_requested()) {
              auto rows = eye->Query("SELECT max(id), extract(epoch FROM clock_timestamp())::float8 FROM t_cdc_history",
                                     Long());
              if (!rows.has_value()) return;
              seen.emplace_back(*(*rows)[0].Get<int64_t>(0), *(*rows)[0].Get<double>(1));
              std::this_thread::sleep_for(std::chrono::microseconds(500));
            }
          });
          PgBench("cdc", 4, seconds, 1000, std::string("-c synchronous_commit=") + commit);
          Await("", "SELECT (SELECT max(id) FROM t_cdc_history) = (SELECT max(id) FROM t_cdc)");
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
        auto rows = sql_->Query(
            "SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM t_cdc"
            " WHERE id > $1 ORDER BY id",
            {from}, Long());
        if (!rows.has_value()) throw std::runtime_error(rows.error().message);
        std::vector<double> waits;
        size_t at = 0;
        for (const auto& row : *rows) {
          while (at < seen.size() && seen[at].first < *row.Get<int64_t>(0)) ++at;
          if (at < seen.size()) waits.push_back(1000 * (seen[at].second - *row.Get<double>(1)));
        }
        if (waits.empty()) throw std::runtime_error("no rows were seen");
        const std::string what = "cdc: commit to history at 1,000 rows/s, batches of " + std::string(interval) +
                                 ", synchronous_commit=" + commit;
        report_.Add(what + ": p50", Quantile(waits, 0.5), "ms");
        report_.Add(what + ": p99", Quantile(waits, 0.99), "ms");
      }
    }
  }

  void Large() {
    CatchUp();
    auto worker = Worker("cdc");
    auto began = Clock::now();
    Run("INSERT INTO t_cdc (name, amount) SELECT 'customer of the bench', n FROM generate_series(1, 10000000) AS n");
    const std::string end = Get("SELECT pg_current_wal_flush_lsn()");
    Await("", "SELECT lsn >= '" + end + "' FROM pgtier.shadow_checkpoint WHERE policy = 'bench/cdc'");
    report_.Add("cdc: 10 M rows in one transaction: the worker's peak of memory", PeakMib(*worker), "MiB", 64);
    report_.Add("cdc: 10 M rows in one transaction: rows/s, with their INSERT", 1e7 / Seconds(began), "/s");
  }

 private:
  static void Ok(const Status& status) {
    if (!status.has_value()) throw std::runtime_error(status.error().message);
  }
  void Run(const std::string& sql) {
    auto done = sql_->Execute(sql, Long());
    if (!done.has_value()) throw std::runtime_error(done.error().message + " of " + sql);
  }
  std::string Get(const std::string& sql) {
    auto rows = sql_->Query(sql, Long());
    if (!rows.has_value()) throw std::runtime_error(rows.error().message + " of " + sql);
    return rows->empty() ? "" : std::string((*rows)[0].Text(0).value_or(""));
  }
  // Polls the second, which is cheap; the first is proved at the end.
  void Await(const std::string& proof, const std::string& sql) {
    for (Deadline deadline = Long(); Get(sql) != "t"; std::this_thread::sleep_for(std::chrono::milliseconds(5))) {
      if (deadline.Expired()) throw std::runtime_error("in vain: " + sql + ": " + files_.Read("log"));
    }
    if (!proof.empty() && Get(proof) != "t") throw std::runtime_error("not exact: " + proof);
  }
  void CatchUp() {
    auto worker = Worker("cdc");
    Run("INSERT INTO t_cdc (name, amount) VALUES ('last', 0)");
    const std::string end = Get("SELECT pg_current_wal_flush_lsn()");
    Await("", "SELECT lsn >= '" + end + "' FROM pgtier.shadow_checkpoint WHERE policy = 'bench/cdc'");
    // What the server was told; else the next one reads it again.
    Await("", "SELECT confirmed_flush_lsn >= '" + end + "' FROM pg_replication_slots WHERE slot_name = 'bench'");
  }
  void Backlog(const std::string& table, int rows) {
    Run("DO $$ BEGIN FOR i IN 1.." + std::to_string(rows / 100) + " LOOP INSERT INTO " + table +
        " (name, amount) SELECT 'customer of the bench', n FROM generate_series(1, 100) AS n; COMMIT; END LOOP; END "
        "$$");
  }
  std::unique_ptr<test::ChildProcess> Worker(const std::string& mode, const std::string& interval = "100ms") {
    auto options = server_->Options();
    options.user = mode == "cdc" ? shadow::kCdcRole : shadow::kNotifyRole;
    files_.Write(mode + ".json",
                 testing::WorkerConfig(files_, options, mode, "bench/" + mode,
                                       R"(, "slot": "bench", "publication": "pgtier_bench", "batch": {"rows": 1000,)"
                                       R"( "interval": ")" +
                                           interval + R"("})"));
    return testing::StartWorker(files_.path() + "/" + mode + ".json", files_.path() + "/log");
  }
  static double PeakMib(const test::ChildProcess& worker) {
    std::ifstream status("/proc/" + std::to_string(worker.pid()) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmHWM:")) return std::atof(line.c_str() + 6) / 1024;
    }
    return 0;
  }
  // Of pgbench's sessions, so far.
  double BackendCpu() {
    auto rows = sql_->Query("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench'", Long());
    double ticks = 0;
    if (!rows.has_value()) return 0;
    for (const auto& row : *rows) {
      std::ifstream stat("/proc/" + std::string(row.Text(0).value_or("0")) + "/stat");
      std::string word;
      for (int field = 1; stat >> word && field <= 15; ++field) {
        if (field >= 14) ticks += std::atof(word.c_str());
      }
    }
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  std::string Tool(std::vector<std::string> command, const std::string& options = "", bool wait = true) {
    const std::string log = "tool-" + std::to_string(++tools_);
    command.insert(command.begin() + 1, {"-h", "127.0.0.1", "-p", std::to_string(server_->port()), "-U", "postgres"});
    tool_ = std::make_unique<testing::ServerProcess>();
    Ok(tool_->Start(server_->folder(), command, log,
                    {{"PGPASSWORD", server_->Options().password}, {"PGOPTIONS", options}}));
    if (!wait) return log;
    auto ended = tool_->Wait(std::chrono::minutes(20));
    if (!ended.has_value() || *ended != 0) throw std::runtime_error(command[0] + ": " + server_->folder().Read(log));
    return server_->folder().Read(log);
  }
  Load PgBench(const std::string& table, int clients, int seconds, int rate, const std::string& options) {
    // A name can't be a variable: those are the statement's parameters.
    server_->folder().Write(
        "insert.sql", "INSERT INTO t_" + table + " (name, amount) VALUES ('customer of the bench', :client_id);\n");
    std::vector<std::string> command = {"pgbench", "-n",
                                        "-f",      "insert.sql",
                                        "-M",      "prepared",
                                        "-c",      std::to_string(clients),
                                        "-j",      "2",
                                        "-T",      std::to_string(seconds),
                                        "-l",      "--log-prefix=latency"};
    if (rate > 0) command.insert(command.end(), {"-R", std::to_string(rate)});
    command.emplace_back("postgres");
    auto began = Clock::now();
    const std::string log = Tool(command, options, false);
    std::this_thread::sleep_for(std::chrono::milliseconds(1000 * seconds - 300));
    const double cpu = BackendCpu(), until = Seconds(began);
    auto ended = tool_->Wait(std::chrono::minutes(2));
    const std::string said = server_->folder().Read(log);
    if (!ended.has_value() || *ended != 0) throw std::runtime_error("pgbench: " + said);
    Load load;
    load.tps = std::atof(said.substr(said.find("tps = ") + 6).c_str());
    load.cpu_us = load.tps > 0 ? 1e6 * cpu / (load.tps * until) : 0;
    std::vector<double> latencies;
    for (const auto& file : std::filesystem::directory_iterator(server_->folder().path())) {
      if (!file.path().filename().string().starts_with("latency.")) continue;
      std::ifstream lines(file.path());
      for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        double client = 0, number = 0, us = 0;
        if (words >> client >> number >> us) latencies.push_back(us / 1000);
      }
      std::filesystem::remove(file.path());
    }
    if (!latencies.empty()) load.p99_ms = Quantile(latencies, 0.99);
    return load;
  }

  std::string results_;
  Report& report_;
  std::unique_ptr<testing::LocalPostgres> server_;
  std::optional<postgres::Connection> sql_;
  std::map<std::string, shadow::Spec> specs_;
  testing::ServerFolder files_;
  std::unique_ptr<testing::ServerProcess> tool_;
  int tools_ = 0;
};

}  // namespace
}  // namespace pgtier::bench

int main(int argc, char** argv) {
  using namespace pgtier::bench;  // NOLINT(google-build-using-namespace): of this function
  if (argc != 3) return 64;
  g_worker_program = argv[1];
  if (std::string why = pgtier::testing::WhyNoServers(); !why.empty()) {
    std::printf("skipped: %s\n", why.c_str());
    return 0;
  }
  Report report;
  try {
    Bench bench(argv[2], report);
    if (Wanted("overhead", true)) bench.Overhead();
    if (Wanted("cdc", true)) bench.Cdc();
    if (Wanted("notify", true)) bench.Notify();
    if (Wanted("latency", true)) bench.Latency();
    if (Wanted("large", false)) bench.Large();
  } catch (const std::exception& failed) {
    std::fprintf(stderr, "shadow_bench: %s\n", failed.what());
    return 1;
  }
  return report.Write(std::string(argv[2]) + "/shadow.json") ? 0 : 1;
}
