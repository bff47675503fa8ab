#include "shadow/outbox.h"

namespace pgtier::shadow {

Result<std::vector<Outbox>> Outboxes(postgres::Connection& connection, const std::string& policy, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows,
                          connection.Query("SELECT id, source FROM pgtier.shadow_outboxes($1)", {policy}, deadline));
  std::vector<Outbox> outboxes;
  for (const auto& row : rows) {
    Outbox outbox;
    PGTIER_ASSIGN_OR_RETURN(outbox.id, row.Get<int64_t>("id"));
    PGTIER_ASSIGN_OR_RETURN(outbox.source, row.Get<std::string>("source"));
    outboxes.push_back(std::move(outbox));
  }
  return outboxes;
}

Result<Queue> QueueOf(postgres::Connection& connection, const Outbox& outbox, int64_t most, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query("SELECT depth, oldest FROM pgtier.shadow_queue($1, $2)",
                                                      {std::to_string(outbox.id), std::to_string(most)}, deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
  Queue queue;
  PGTIER_ASSIGN_OR_RETURN(queue.depth, row.Get<int64_t>("depth"));
  PGTIER_ASSIGN_OR_RETURN(queue.oldest_seconds, row.Get<double>("oldest"));
  return queue;
}

Result<Batch> MoveBatch(postgres::Connection& connection, const Outbox& outbox, int64_t rows, int64_t workers,
                        bool everything, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto answer, connection.Query("SELECT moved, buried, oldest, next FROM pgtier.shadow_drain($1, $2, $3, $4)",
                                    {std::to_string(outbox.id), std::to_string(rows), std::to_string(workers),
                                     everything ? "true" : "false"},
                                    deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, answer.Single());
  Batch batch;
  PGTIER_ASSIGN_OR_RETURN(batch.moved, row.Get<int64_t>("moved"));
  PGTIER_ASSIGN_OR_RETURN(batch.buried, row.Get<int64_t>("buried"));
  PGTIER_ASSIGN_OR_RETURN(batch.oldest_seconds, row.Get<double>("oldest"));
  PGTIER_ASSIGN_OR_RETURN(auto next, row.Get<std::string>("next"));
  batch.next = next == "again"        ? Next::kAgain
               : next == "busy"       ? Next::kBusy
               : next == "everything" ? Next::kEverything
                                      : Next::kRest;
  return batch;
}

}  // namespace pgtier::shadow
