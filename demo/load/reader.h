// One client of the read endpoint: a query after the other on one long-lived connection.
#pragma once

#include <random>
#include <stop_token>

#include "demo/load/load_metrics.h"
#include "demo/load/options.h"
#include "demo/load/recorder.h"
#include "demo/load/schema.h"
#include "demo/load/session.h"

namespace pgtier::load {

// Runs until stop; a query that is under way then is finished. Failed queries are counted and not repeated.
class Reader {
 public:
  Reader(const LoadOptions& options, const Schema& schema, Recorder& recorder, LoadMetrics& metrics);
  void Run(const std::stop_token& stop);

 private:
  QueryType Choose();
  // False when it failed.
  bool RunQuery(QueryType type);
  Result<postgres::Rows> Ask(postgres::Connection& connection, QueryType type);
  void NoteSimilarity(const postgres::Rows& rows);

  const LoadOptions& options_;
  const Schema& schema_;
  Recorder& recorder_;
  LoadMetrics& metrics_;
  Session session_;
  GapWatch gap_;
  std::mt19937_64 random_;
};

}  // namespace pgtier::load
