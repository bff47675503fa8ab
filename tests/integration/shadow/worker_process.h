// pgtier-worker as a child of the test.
#pragma once

#include <signal.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/integration/postgres/local_server.h"
#include "tests/support/child_process.h"

namespace pgtier::testing {

// The file that the worker is given; the password in a file beside it.
inline std::string WorkerConfig(const ServerFolder& folder, const postgres::ConnectOptions& database,
                                const std::string& mode, const std::string& policy = "data/audit",
                                const std::string& more = "") {
  return R"({"policy": ")" + policy + R"(", "mode": ")" + mode + R"(", "channel": "audit_shadow_channel", )" +
         R"("database": {"host": ")" + database.host + R"(", "port": )" + std::to_string(database.port) +
         R"(, "name": ")" + database.database + R"(", "user": ")" + database.user + R"(", "passwordFile": ")" +
         folder.path() + R"(/password"}, "listen": {"address": "127.0.0.1", "port": 0})" + more + "}";
}

// `config` is the file's path; what the worker logs is appended to `log`.
inline std::unique_ptr<test::ChildProcess> StartWorker(const std::string& config, const std::string& log) {
  return std::make_unique<test::ChildProcess>(std::vector<std::string>{PGTIER_WORKER_PROGRAM, "--config", config}, log);
}

// SIGTERM; the exit code, or -1 when it did not end by itself.
inline int Terminate(test::ChildProcess& worker) {
  worker.Signal(SIGTERM);
  return worker.Wait(std::chrono::seconds(60));
}

}  // namespace pgtier::testing
