#include "lib/observe/sql_reading.h"

#include <cctype>
#include <cmath>
#include <cstdlib>

#include "lib/postgres/sqlstate.h"

namespace pgtier::observe {
namespace {

using core::Reading;

constexpr char kInsufficientPrivilege[] = "42501";
constexpr char kQueryCanceled[] = "57014";

// Estimated rows of a table with all that inherits from it, and how many of these nobody has analysed although they
// hold data. As the planner does it, the density found last is applied to the size of now. Needs no right on the table.
constexpr char kEstimate[] =
    "WITH RECURSIVE parts(oid) AS (SELECT $1::oid UNION "
    "  SELECT i.inhrelid FROM pg_inherits i JOIN parts p ON i.inhparent = p.oid), "
    "sizes AS (SELECT c.reltuples, c.relpages, coalesce(pg_relation_size(c.oid), 0) AS bytes "
    "  FROM parts JOIN pg_class c USING (oid) WHERE c.relkind IN ('r', 'm', 't')) "
    "SELECT coalesce(sum(CASE WHEN reltuples < 0 THEN 0 WHEN relpages = 0 THEN reltuples::float8 "
    "    ELSE reltuples::float8 / relpages * (bytes / current_setting('block_size')::float8) END), 0) AS rows, "
    "  count(*) FILTER (WHERE reltuples >= 0 OR bytes = 0) AS known, count(*) AS parts "
    "FROM sizes";

// The schema of TimescaleDB's functions, if the table is one of its hypertables.
constexpr char kIsHypertable[] =
    "SELECT quote_ident(n.nspname) AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
    "WHERE e.extname = 'timescaledb' AND EXISTS (SELECT 1 FROM timescaledb_information.hypertables h "
    "  WHERE format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass = $1::oid)";

// The GRANT that is missing on a table, view, sequence or schema of that name, as the server's message has it.
constexpr char kMissingGrant[] =
    "SELECT format('GRANT SELECT ON %I.%I TO %I', n.nspname, c.relname, current_user) AS sql "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT has_table_privilege(c.oid, 'SELECT') "
    "UNION ALL "
    "SELECT format('GRANT USAGE ON SCHEMA %I TO %I', nspname, current_user) FROM pg_namespace "
    "WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE') LIMIT 1";

Reading FromError(const Error& error, const char* otherwise) {
  std::string_view state = postgres::SqlStateOf(error);
  if (state == kQueryCanceled || error.code == Code::kDeadlineExceeded) {
    return Reading::Unknown("QueryTimedOut: the query took too long and was cancelled");
  }
  if (error.code == Code::kUnavailable) return Reading::Unknown("PostgresUnreachable: " + error.message);
  // Messages of data exceptions quote values of rows.
  if (state.starts_with("22"))
    return Reading::Unknown("BadQuery: the query failed on its data [" + std::string(state) + "]");
  return Reading::Unknown(std::string(otherwise) + ": " + error.message);
}

// The last word of "permission denied for table customers [42501]".
std::string NameIn(const std::string& message) {
  size_t end = message.rfind(" [");
  size_t begin = end == std::string::npos ? end : message.rfind(' ', end - 1);
  return begin == std::string::npos ? "" : message.substr(begin + 1, end - begin - 1);
}

// One connection's questions, each in a transaction of its own that can write nothing.
class Asker {
 public:
  Asker(postgres::Connection& connection, std::string role, Duration patience, Deadline deadline)
      : connection_(connection),
        role_(std::move(role)),
        patience_(std::to_string(std::chrono::ceil<std::chrono::milliseconds>(patience).count())),
        deadline_(deadline) {}

  Result<postgres::Rows> Ask(const std::string& sql, const postgres::Params& params = {}) {
    PGTIER_ASSIGN_OR_RETURN(postgres::Transaction transaction,
                            postgres::Transaction::Begin(connection_, deadline_, "READ ONLY"));
    PGTIER_ASSIGN_OR_RETURN(postgres::Rows set, connection_.Query("SELECT set_config('statement_timeout', $1, true)",
                                                                  {patience_}, deadline_));
    PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows, connection_.Query(sql, params, deadline_));
    PGTIER_RETURN_IF_ERROR(transaction.Rollback(deadline_));
    return rows;
  }

  Reading Denied(const Error& error) {
    std::string words = "GrantMissing: " + error.message;
    Result<postgres::Rows> grant = Ask(kMissingGrant, {NameIn(error.message)});
    if (grant.has_value() && !grant->empty()) {
      return Reading::Unknown(words + "; run: " + std::string((*grant)[0].Text("sql").value_or("")));
    }
    return Reading::Unknown(words + "; grant it to " + role_);
  }

  // A failure of `sql`; `otherwise` where nothing better is known.
  Reading Failed(const Error& error, const char* otherwise) {
    return postgres::SqlStateOf(error) == kInsufficientPrivilege ? Denied(error) : FromError(error, otherwise);
  }

 private:
  postgres::Connection& connection_;
  const std::string role_;
  const std::string patience_;
  const Deadline deadline_;
};

// One value as text: "(42)" is a row of one column, "()" one of NULL.
Reading FromRow(const std::string& row) {
  if (row.size() < 2 || row.front() != '(' || row.back() != ')') {
    return Reading::Unknown("NotANumber: the query returned something longer than a number");
  }
  std::string value = row.substr(1, row.size() - 2);
  if (value.empty()) return Reading::Unknown("NoData: the query returned NULL");
  if (value.find(',') != std::string::npos) {
    return Reading::Unknown("ManyColumns: the query returned several columns; select one number");
  }
  char* end = nullptr;
  double number = std::strtod(value.c_str(), &end);
  if (end != value.c_str() + value.size() || !std::isfinite(number)) {
    return Reading::Unknown("NotANumber: the query returned something that is no number");
  }
  return Reading::Of(number);
}

Reading RunQuery(Asker& asker, std::string query) {
  while (!query.empty() && (std::isspace(static_cast<unsigned char>(query.back())) != 0 || query.back() == ';')) {
    query.pop_back();
  }
  // As a subquery it can be nothing but one SELECT, and neither many rows nor a long value reach this process. The line
  // break ends a comment.
  Result<postgres::Rows> rows = asker.Ask("SELECT left(q::text, 64) FROM (\n" + query + "\n) AS q LIMIT 2");
  if (!rows.has_value()) return asker.Failed(rows.error(), "BadQuery");
  if (rows->empty()) return Reading::Unknown("NoData: the query returned no row");
  if (rows->size() > 1) return Reading::Unknown("ManyRows: the query returned several rows; aggregate them to one");
  return FromRow(std::string((*rows)[0].Text(size_t{0}).value_or("()")));
}

Reading ToReading(const postgres::Rows& rows, const char* column) {
  Result<postgres::Row> row = rows.Single();
  Result<std::optional<double>> number = row.has_value() ? row->Find<double>(column) : std::optional<double>();
  if (!number.has_value() || !number->has_value()) return Reading::Unknown("NoData: the count returned nothing");
  return Reading::Of(**number);
}

Reading Estimate(Asker& asker, const std::string& table, const std::string& oid) {
  Result<postgres::Rows> hypertable = asker.Ask(kIsHypertable, {oid});
  // Without TimescaleDB its views do not exist.
  if (hypertable.has_value() && !hypertable->empty()) {
    std::string schema((*hypertable)[0].Text("schema").value_or("public"));
    Result<postgres::Rows> rows =
        asker.Ask("SELECT " + schema + ".approximate_row_count($1::oid::regclass)::float8 AS rows", {oid});
    return rows.has_value() ? ToReading(*rows, "rows") : asker.Failed(rows.error(), "QueryFailed");
  }
  Result<postgres::Rows> rows = asker.Ask(kEstimate, {oid});
  if (!rows.has_value()) return asker.Failed(rows.error(), "QueryFailed");
  Result<postgres::Row> row = rows->Single();
  if (row.has_value() && row->Get<int64_t>("known").value_or(0) == 0 && row->Get<int64_t>("parts").value_or(0) > 0) {
    return Reading::Unknown("NeverAnalysed: nobody knows how many rows " + table + " has; run: ANALYZE " + table);
  }
  Reading reading = ToReading(*rows, "rows");
  if (reading.value.has_value()) reading.value = std::round(*reading.value);
  return reading;
}

Reading CountRows(Asker& asker, const SqlQuestion& question) {
  Result<postgres::Rows> found = asker.Ask(
      "SELECT c.oid::text AS oid, format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c "
      "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
      {question.rows_of});
  if (!found.has_value()) return asker.Failed(found.error(), "BadQuery");
  if (found->empty()) return Reading::Unknown("TableNotFound: there is no table " + question.rows_of);
  std::string oid((*found)[0].Text("oid").value_or(""));
  std::string name((*found)[0].Text("name").value_or(""));
  if (!question.exact) return Estimate(asker, name, oid);
  Result<postgres::Rows> rows = asker.Ask("SELECT count(*)::float8 AS rows FROM " + name);
  return rows.has_value() ? ToReading(*rows, "rows") : asker.Failed(rows.error(), "QueryFailed");
}

}  // namespace

Reading ReadSql(const postgres::ConnectOptions& server, const SqlQuestion& question, Duration patience,
                Deadline deadline, const std::stop_token& stop) {
  postgres::ConnectOptions options = server;
  // As an application's session finds its tables. What is pgtier's own is looked up in pg_catalog first either way.
  options.options = "-c search_path=public -c default_transaction_read_only=on";
  // The server's own limit comes first, so that the connection stays usable for the GRANT that may be missing.
  Deadline limit = deadline.AtMost(patience + std::chrono::seconds(1));
  Result<postgres::Connection> connection = postgres::Connection::Open(options, limit, stop);
  if (!connection.has_value()) {
    const Error& error = connection.error();
    bool refused = error.code == Code::kUnauthenticated || error.code == Code::kNotFound;
    return Reading::Unknown((refused ? "LoginRefused: " : "PostgresUnreachable: ") + error.message);
  }
  Asker asker(*connection, options.user, patience, limit);
  return question.rows_of.empty() ? RunQuery(asker, question.query) : CountRows(asker, question);
}

}  // namespace pgtier::observe
