#include "shadow/payload.h"

#include "lib/postgres/quote.h"
#include "shadow/internal.h"

namespace pgtier::shadow {

Result<bool> BeginListening(postgres::Connection& connection, const std::string& policy, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto channel,
                          Value(connection, "SELECT pgtier.shadow_payload_channel($1)", {policy}, deadline));
  if (!channel.has_value()) return MakeError(Code::kNotFound, "the database knows no policy " + policy);
  PGTIER_ASSIGN_OR_RETURN(auto quoted, postgres::QuoteIdentifier(connection, *channel));
  PGTIER_RETURN_IF_ERROR(connection.Execute("LISTEN " + quoted, deadline));
  PGTIER_ASSIGN_OR_RETURN(auto gap, Value(connection, "SELECT pgtier.shadow_listen_begin($1)", {policy}, deadline));
  return gap == "t";
}

Result<Accepted> Accept(postgres::Connection& connection, const std::string& policy,
                        const std::vector<std::string>& payloads, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query("SELECT taken, buried, strange, beat"
                                                      " FROM pgtier.shadow_accept($1, $2)",
                                                      {policy, ArrayLiteral(payloads)}, deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
  Accepted accepted;
  PGTIER_ASSIGN_OR_RETURN(accepted.taken, row.Get<int64_t>("taken"));
  PGTIER_ASSIGN_OR_RETURN(accepted.buried, row.Get<int64_t>("buried"));
  PGTIER_ASSIGN_OR_RETURN(accepted.strange, row.Get<int64_t>("strange"));
  accepted.beat = std::string(row.Text("beat").value_or(""));
  return accepted;
}

Result<std::string> SendBeat(postgres::Connection& connection, const std::string& policy, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto beat, Value(connection, "SELECT pgtier.shadow_beat($1)", {policy}, deadline));
  return beat.value_or("");
}

Result<std::string> PossibleSenders(postgres::Connection& connection, const std::string& policy, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto senders,
                          Value(connection, "SELECT pgtier.shadow_payload_writers($1)", {policy}, deadline));
  return senders.value_or("{}");
}

Result<bool> HaveEnded(postgres::Connection& connection, const std::string& transactions, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto ended,
      Value(connection, "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE virtualtransaction = ANY ($1::text[]))",
            {transactions}, deadline));
  return ended == "t";
}

Status EndListening(postgres::Connection& connection, const std::string& policy, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(connection.Query("SELECT pgtier.shadow_listen_end($1)", {policy}, deadline));
  return {};
}

}  // namespace pgtier::shadow
