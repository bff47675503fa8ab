#include <random>
#include <thread>

#include "lib/base/sha256.h"
#include "lib/postgres/sqlstate.h"
#include "shadow/internal.h"
#include "sql/shadow.h"

namespace pgtier::shadow {
namespace {

// In the order in which they build on one another; the rights come last.
constexpr const char* kScripts[] = {sql::kShadowSchema,         sql::kShadowColumns,         sql::kShadowPayload,
                                    sql::kShadowBody,           sql::kShadowTriggers,        sql::kShadowInstall,
                                    sql::kShadowFollow,         sql::kShadowDrain,           sql::kShadowSwap,
                                    sql::kShadowBarrier,        sql::kShadowAdopt,           sql::kShadowHypertable,
                                    sql::kShadowPartition,      sql::kShadowPartitionAttach, sql::kShadowPartitionKeep,
                                    sql::kShadowPartitionSplit, sql::kShadowHypertableCopy,  sql::kShadowRights};
constexpr size_t kVersionLength = 16;

// Pauses between tries: long against a transaction of an application, short against a person's patience.
constexpr int kShortestPauseMs = 50;
constexpr int kLongestPauseMs = 400;

// Said each time: what is read after a lock has to be newer than the lock, whatever the database's or the role's
// default_transaction_isolation is.
constexpr const char* kReadCommitted = "ISOLATION LEVEL READ COMMITTED";

}  // namespace

std::string InstalledVersion() {
  static const std::string kVersion = [] {
    std::string all;
    for (const char* script : kScripts) all += script;
    return Sha256Hex(all).substr(0, kVersionLength);
  }();
  return kVersion;
}

std::string ArrayLiteral(const std::vector<std::string>& texts) {
  std::string literal = "{";
  for (const std::string& text : texts) {
    if (literal.size() > 1) literal += ',';
    literal += '"';
    for (char c : text) {
      if (c == '"' || c == '\\') literal += '\\';
      literal += c;
    }
    literal += '"';
  }
  return literal + "}";
}

Result<std::optional<std::string>> Value(postgres::Connection& connection, const std::string& sql,
                                         const postgres::Params& params, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query(sql, params, deadline));
  if (rows.empty()) return std::optional<std::string>();
  auto text = rows[0].Text(0);
  return text.has_value() ? std::optional<std::string>(*text) : std::nullopt;
}

Status InstallScripts(postgres::Connection& admin, Deadline deadline) {
  return WithLockRetries(admin, "installing pgtier's functions", deadline, [&]() -> Status {
    // Two policies of one database may be installed at the same time.
    PGTIER_RETURN_IF_ERROR(admin.Query("SELECT pg_advisory_xact_lock(7047000, 0)", deadline));
    // What older event triggers believe, until they are replaced.
    PGTIER_RETURN_IF_ERROR(admin.Query("SELECT set_config('pgtier.shadow_own_ddl', '1', true)", deadline));
    for (const char* script : kScripts) {
      PGTIER_RETURN_IF_ERROR(admin.Execute(script, deadline));
      if (script != sql::kShadowFollow) continue;
      PGTIER_RETURN_IF_ERROR(admin.Query("SELECT pgtier.shadow_own_ddl(true)", deadline));
    }
    return {};
  });
}

Result<bool> KnowsShadows(postgres::Connection& connection, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto found, Value(connection, "SELECT to_regclass('pgtier.shadow_state')", {}, deadline));
  return found.has_value();
}

Status WithLockRetries(postgres::Connection& admin, const std::string& what, Deadline deadline,
                       const std::function<Status()>& work) {
  std::minstd_rand random{std::random_device{}()};
  std::uniform_int_distribution<int> pause(kShortestPauseMs, kLongestPauseMs);
  std::string in_way;
  auto gave_up = [&] { return MakeError(Code::kDeadlineExceeded, what + ": writers did not let it in: " + in_way); };
  while (true) {
    PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(admin, deadline, kReadCommitted));
    Status done = work();
    if (done.has_value()) return transaction.Commit(deadline);
    std::string_view state = postgres::SqlStateOf(done.error());
    if (state != "55P03" && state != "40P01") {
      if (done.error().code == Code::kDeadlineExceeded && !in_way.empty()) return gave_up();
      return std::move(done).error().WithContext(what);
    }
    PGTIER_RETURN_IF_ERROR(transaction.Rollback(deadline));
    in_way = done.error().message;
    Duration wait = std::chrono::milliseconds(pause(random));
    if (deadline.Remaining() <= wait) return gave_up();
    std::this_thread::sleep_for(wait);
  }
}

}  // namespace pgtier::shadow
