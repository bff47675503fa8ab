// A database of its own for each test, with helpers that read like SQL.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "shadow/shadow.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::testing {

class WithDatabase : public WithServer {
 protected:
  void SetUp() override {
    WithServer::SetUp();
    if (IsSkipped()) return;
    static std::atomic<int> count = 0;
    database_ = "shadow" + std::to_string(++count);
    auto root = Connect();
    Run(root, "CREATE DATABASE " + database_);
    admin_.emplace(Connect(database_));
  }

  [[nodiscard]] const std::string& database() const { return database_; }
  postgres::Connection& admin() { return *admin_; }
  postgres::Connection Open() { return Connect(database_); }
  // As another role, with the password that MakeRole gives.
  postgres::Connection OpenAs(const std::string& role) {
    auto options = server().Options(database_);
    options.user = role;
    options.password = "secret";
    auto connection = postgres::Connection::Open(options, Soon());
    if (!connection.has_value()) throw std::runtime_error(connection.error().message);
    return *std::move(connection);
  }
  void MakeRole(const std::string& role, const std::string& attributes = "") {
    Run("DROP ROLE IF EXISTS " + role);
    Run("CREATE ROLE " + role + " LOGIN " + attributes + " PASSWORD 'secret'");
  }

  static void Run(postgres::Connection& connection, const std::string& sql) {
    auto done = connection.Execute(sql, Soon());
    if (!done.has_value()) throw std::runtime_error(done.error().message + " of: " + sql);
  }
  void Run(const std::string& sql) { Run(admin(), sql); }
  // The error's text; "" when there is none.
  static std::string Fails(postgres::Connection& connection, const std::string& sql) {
    auto done = connection.Execute(sql, Soon());
    return done.has_value() ? "" : done.error().message;
  }
  std::string Fails(const std::string& sql) { return Fails(admin(), sql); }
  // Rows as lines, values between bars, NULL as "-".
  static std::string Read(postgres::Connection& connection, const std::string& sql) {
    auto rows = connection.Query(sql, Soon());
    if (!rows.has_value()) throw std::runtime_error(rows.error().message + " of: " + sql);
    std::string text;
    for (const auto& row : *rows) {
      for (size_t i = 0; i < rows->columns(); ++i) {
        if (i > 0) text += "|";
        text += row.Text(i).value_or("-");
      }
      text += "\n";
    }
    return text;
  }
  std::string Read(const std::string& sql) { return Read(admin(), sql); }

  static shadow::Spec SpecOf(const std::vector<std::string>& sources, const std::string& policy = "data/audit") {
    shadow::Spec spec;
    spec.policy = policy;
    spec.actor_setting = "app.actor";
    spec.channel = "audit_shadow_channel";
    for (const std::string& source : sources) spec.tables.push_back({source, ""});
    return spec;
  }
  void Install(const shadow::Spec& spec) {
    auto done = shadow::Install(admin(), spec, Soon());
    if (!done.has_value()) throw std::runtime_error(done.error().message);
  }
  shadow::State Inspect(const shadow::Spec& spec) {
    auto state = shadow::Inspect(admin(), spec, Soon());
    if (!state.has_value()) throw std::runtime_error(state.error().message);
    return *std::move(state);
  }
  // Codes of the findings, those that block in capitals' company of "!": "NoTable! UnloggedTable".
  std::string Preflight(const shadow::Spec& spec, shadow::Tier tier = shadow::Tier::kTriggers) {
    auto findings = shadow::Preflight(admin(), spec, tier, Soon());
    if (!findings.has_value()) return findings.error().message;
    std::string codes;
    for (const auto& finding : *findings)
      codes += (codes.empty() ? "" : " ") + finding.code + (finding.blocks ? "!" : "");
    return codes;
  }

 private:
  std::string database_;
  std::optional<postgres::Connection> admin_;
};

}  // namespace pgtier::testing
