#include "workers/cdc/session.h"

#include "lib/postgres/sqlstate.h"

namespace pgtier::workers {
namespace {

constexpr Duration kConnectLimit = std::chrono::seconds(15);
// A server notices after a moment only that a client is gone, and keeps its slot and its origin until then.
constexpr Duration kBusyLimit = std::chrono::seconds(60);
constexpr Duration kBusyPause = std::chrono::milliseconds(100);
constexpr std::string_view kInUse = "55006";

// Values travel as text: both sides must print and read it alike, whatever the database's or the role's settings are.
constexpr const char* kText =
    "-c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=3 -c timezone=UTC -c bytea_output=hex"
    " -c search_path=pg_catalog -c xmloption=content";

// Tries again while another session holds what `attempt` needs.
template <typename Attempt>
Status WhileInUse(Attempt attempt, const std::stop_token& stop) {
  const Deadline deadline = Deadline::After(kBusyLimit);
  while (true) {
    Status done = attempt();
    if (done.has_value() || postgres::SqlStateOf(done.error()) != kInUse || deadline.Expired()) return done;
    if (!SleepFor(kBusyPause, stop)) return MakeError(Code::kCancelled, "stopped");
  }
}

}  // namespace

Result<postgres::Connection> OpenWriter(const CdcOptions& options, const std::stop_token& stop) {
  postgres::ConnectOptions connect = options.database;
  connect.application_name = "pgtier-cdc-writer";
  connect.options = std::string(kText) +
                    " -c synchronous_commit=on -c default_transaction_read_only=off -c statement_timeout=0"
                    " -c lock_timeout=0 -c idle_in_transaction_session_timeout=0";
  PGTIER_ASSIGN_OR_RETURN(auto connection, postgres::Connection::Open(connect, Deadline::After(kConnectLimit), stop));
  if (connection.ServerVersion() >= 170000) {
    PGTIER_RETURN_IF_ERROR(connection.Execute("SET transaction_timeout = 0", Deadline::After(kConnectLimit)));
  }
  auto attempt = [&]() -> Status {
    auto held = connection.Query("SELECT pg_replication_origin_session_setup($1)", {"pgtier_" + options.slot},
                                 Deadline::After(kConnectLimit));
    if (!held.has_value()) return std::move(held).error().WithContext("taking the origin pgtier_" + options.slot);
    return {};
  };
  PGTIER_RETURN_IF_ERROR(WhileInUse(attempt, stop));
  return connection;
}

Result<postgres::ReplicationConnection> OpenReader(const CdcOptions& options, const std::stop_token& stop) {
  postgres::ConnectOptions connect = options.database;
  connect.application_name = "pgtier-cdc-reader";
  connect.options = kText;
  return postgres::ReplicationConnection::Open(connect, Deadline::After(kConnectLimit), stop);
}

Status StartReading(postgres::ReplicationConnection& connection, const CdcOptions& options, bool stream,
                    postgres::Lsn from, const std::stop_token& stop) {
  std::string publication = "\"";
  for (char c : options.publication) publication += c == '"' ? std::string("\"\"") : std::string(1, c);
  postgres::LogicalStart start{
      options.slot,
      from,
      {{"proto_version", stream ? "2" : "1"}, {"publication_names", publication + "\""}, {"messages", "true"}}};
  if (stream) start.options.emplace_back("streaming", "on");
  // What we write ourselves is then not even decoded. Older servers decode it, and find that it is not published.
  if (connection.ServerVersion() >= 160000) start.options.emplace_back("origin", "none");
  return WhileInUse([&] { return connection.Start(start, Deadline::After(kBusyLimit)); }, stop);
}

}  // namespace pgtier::workers
