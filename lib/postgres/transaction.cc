#include <utility>

#include "lib/base/log.h"
#include "lib/postgres/connection.h"

namespace pgtier::postgres {
namespace {

constexpr Duration kRollbackLimit = std::chrono::seconds(2);

}  // namespace

Result<Transaction> Transaction::Begin(Connection& connection, Deadline deadline, const std::string& modes) {
  if (connection.InTransaction()) {
    return MakeError(Code::kFailedPrecondition, "a transaction is open on this connection already");
  }
  auto begun = connection.Execute(modes.empty() ? "BEGIN" : "BEGIN " + modes, deadline);
  if (!begun.has_value()) return std::move(begun).error().WithContext("BEGIN");
  return Transaction(&connection);
}

Transaction::Transaction(Transaction&& other) noexcept : connection_(std::exchange(other.connection_, nullptr)) {}

Transaction::~Transaction() {
  if (connection_ == nullptr) return;
  auto ended = Rollback(Deadline::After(kRollbackLimit));
  // The connection is closed by now, so nothing stays open on the server.
  if (!ended.has_value()) log::Debug("rollback failed", {{"error", ended.error().message}});
}

Status Transaction::Commit(Deadline deadline) {
  Connection* connection = std::exchange(connection_, nullptr);
  if (connection == nullptr) return MakeError(Code::kFailedPrecondition, "the transaction has ended already");
  auto answers = connection->Execute("COMMIT", deadline);
  if (!answers.has_value()) {
    // A COMMIT that was refused (a deferred constraint) has ended the transaction too; any other state is unknown.
    if (connection->Usable() && connection->InTransaction()) connection->Close();
    return std::move(answers).error().WithContext("COMMIT");
  }
  if (answers->empty() || answers->back().command() != "COMMIT") {
    return MakeError(Code::kAborted, "COMMIT: a statement before it failed, so the transaction was rolled back");
  }
  return {};
}

Status Transaction::Rollback(Deadline deadline) {
  Connection* connection = std::exchange(connection_, nullptr);
  if (connection == nullptr || !connection->Usable() || !connection->InTransaction()) return {};
  auto answers = connection->Execute("ROLLBACK", deadline);
  if (answers.has_value()) return {};
  connection->Close();
  return std::move(answers).error().WithContext("ROLLBACK");
}

}  // namespace pgtier::postgres
