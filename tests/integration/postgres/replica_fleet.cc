#include "tests/integration/postgres/replica_fleet.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "lib/postgres/objects.h"
#include "sql/scale_tier.h"

namespace pgtier::testing {
namespace {

constexpr char kUser[] = "kyoyu_app";
constexpr char kUserPassword[] = "application's password";

Deadline Soon() { return Deadline::After(std::chrono::seconds(30)); }

std::string ServerAddress(int number) { return "127.0.0." + std::to_string(number); }
std::string ServiceAddress(int number) { return "127.0.1." + std::to_string(number); }

std::string Script() {
  std::ifstream file(PGTIER_SOURCE_DIR "/images/postgres/pgtier-heartbeat");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

bool ReplicaFleet::Standby::Out() const { return std::filesystem::exists(server->folder().path() + "/pgtier-out"); }

bool ReplicaFleet::Standby::Drained() const { return !server->folder().Read("pgtier-routing.conf").empty(); }

Result<std::unique_ptr<ReplicaFleet>> ReplicaFleet::Start(Duration max_lag) {
  std::unique_ptr<ReplicaFleet> fleet(new ReplicaFleet);
  PGTIER_RETURN_IF_ERROR(fleet->StartPrimary());
  for (int number : {2, 3}) PGTIER_RETURN_IF_ERROR(fleet->StartStandby(number, max_lag));
  poolers::PgBouncerSettings settings;
  poolers::PgBouncerDatabase database;
  database.name = "postgres";
  for (const Standby& standby : fleet->standbys_) database.hosts.push_back(standby.address);
  database.port = fleet->primary_->port();
  settings.databases = {database};
  settings.default_pool_size = 8;
  settings.min_pool_size = 8;
  settings.reserve_pool_size = 0;
  settings.server_release_query = poolers::kLeaveWhenOut;
  PGTIER_ASSIGN_OR_RETURN(fleet->pooler_, LocalPgBouncer::Start(settings, {{kUser, kUserPassword}}));
  return fleet;
}

Status ReplicaFleet::StartPrimary() {
  PostgresOptions options;
  options.address = ServerAddress(1);
  options.conf = {"pgtier.database = 'postgres'"};
  PGTIER_ASSIGN_OR_RETURN(primary_, LocalPostgres::Start(options));
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection connection, primary_->Connect());
  for (const char* name : {"pgtier_pooler", "pgtier_monitor", kUser}) {
    postgres::RoleSpec role;
    role.name = name;
    PGTIER_RETURN_IF_ERROR(postgres::EnsureRole(connection, role, kUserPassword, Soon()));
  }
  PGTIER_RETURN_IF_ERROR(connection.Execute(sql::kScaleTierSchema, Soon()));
  return StartHeartbeat(first_, *primary_);
}

Status ReplicaFleet::StartStandby(int number, Duration max_lag) {
  Standby standby;
  standby.address = ServiceAddress(number);
  PostgresOptions options;
  options.address = ServerAddress(number);
  options.port = primary_->port();
  options.application_name = standby.address;
  // Else the next clone's checkpoint takes away what this one has not asked for yet.
  options.slot = "standby_" + std::to_string(number);
  auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(max_lag).count();
  options.conf = {"pgtier.database = 'postgres'", "pgtier.max_lag = '" + std::to_string(limit) + "'",
                  "include_if_exists = '../pgtier-routing.conf'"};
  PGTIER_ASSIGN_OR_RETURN(standby.server, LocalPostgres::StartStandby(*primary_, options));
  standby.server->folder().Write("pgtier-out", "");
  PGTIER_RETURN_IF_ERROR(StartHeartbeat(standby, *standby.server));
  std::string out = standby.server->folder().path() + "/pgtier-out";
  standby.service =
      std::make_unique<FakeService>(standby.address, ServerAddress(number), primary_->port(), std::chrono::seconds(1),
                                    [out] { return !std::filesystem::exists(out); });
  standbys_.push_back(std::move(standby));
  return {};
}

Status ReplicaFleet::StartHeartbeat(Standby& standby, const LocalPostgres& server) {
  const ServerFolder& folder = server.folder();
  folder.Write("pgtier-heartbeat", Script());
  postgres::ConnectOptions options = server.Options();
  std::string port = std::to_string(server.port());
  standby.heartbeat = std::make_unique<ServerProcess>();
  // As images/postgres/pgtier-postgres starts it: again when it ends.
  return standby.heartbeat->Start(
      folder, {"sh", "-c", "while :; do sh ./pgtier-heartbeat run || true; sleep 0.2; done"}, "heartbeat.log",
      {{"PGHOST", options.host},
       {"PGPORT", port},
       {"PGPASSWORD", options.password},
       {"PGTIER_RUN", folder.path()},
       {"PGTIER_INSTANCE", standby.address},
       {"PGTIER_PRIMARY_HOST", ServerAddress(1)},
       {"PGTIER_REACH", "host=%s port=" + port}});
}

postgres::ConnectOptions ReplicaFleet::Application() const {
  return pooler_->Options("postgres", kUser, kUserPassword);
}

int64_t ReplicaFleet::ConnectionsTo(const Standby& standby) {
  auto connection = standby.server->Connect();
  if (!connection.has_value()) return -1;
  auto rows = connection->Query("SELECT count(*) FROM pg_stat_activity WHERE usename = $1", {kUser}, Soon());
  return rows.has_value() ? *(*rows)[0].Get<int64_t>(0) : -1;
}

Status ReplicaFleet::PauseReplay(const Standby& standby, bool pause) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection connection, standby.server->Connect());
  PGTIER_RETURN_IF_ERROR(
      connection.Query(pause ? "SELECT pg_wal_replay_pause()" : "SELECT pg_wal_replay_resume()", Soon()));
  return {};
}

std::string ReplicaFleet::Log() const {
  std::string all;
  for (const Standby& standby : standbys_) {
    all += "-- " + standby.address + "\n" + standby.server->folder().Read("heartbeat.log");
    all += "-- its server\n" + standby.server->Log();
  }
  return all;
}

Readers::Readers(const postgres::ConnectOptions& options, int count) {
  for (int i = 0; i < count; ++i) {
    threads_.emplace_back([this, options](const std::stop_token& stop) { Run(options, stop); });
  }
}

void Readers::Run(const postgres::ConnectOptions& options, const std::stop_token& stop) {
  auto connection = postgres::Connection::Open(options, Soon());
  while (connection.has_value() && !stop.stop_requested()) {
    auto rows = connection->Query("SELECT host(inet_server_addr())", Soon());
    std::lock_guard lock(mutex_);
    if (!rows.has_value()) {
      errors_.push_back(rows.error().message);
      return;
    }
    auto& [last, count] = answers_[std::string((*rows)[0].Text(size_t{0}).value_or(""))];
    last = std::chrono::steady_clock::now();
    ++count;
  }
  std::lock_guard lock(mutex_);
  if (!connection.has_value()) errors_.push_back(connection.error().message);
}

void Readers::Stop() {
  for (auto& thread : threads_) thread.request_stop();
  threads_.clear();
}

MonoTime Readers::LastAnswerOf(const std::string& address) {
  std::lock_guard lock(mutex_);
  return answers_[address].first;
}

int64_t Readers::AnswersOf(const std::string& address) {
  std::lock_guard lock(mutex_);
  return answers_[address].second;
}

std::vector<std::string> Readers::errors() {
  std::lock_guard lock(mutex_);
  return errors_;
}

}  // namespace pgtier::testing
