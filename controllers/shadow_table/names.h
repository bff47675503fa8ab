// Names, labels and annotations of everything that a ShadowTablePolicy owns. A label of its own: by kPolicyLabel a
// ScaleTierPolicy of the same name would take what is not its own.
#pragma once

#include <string>

#include "controllers/ladder/names.h"

namespace pgtier::controllers::shadow_table {

inline constexpr char kShadowPolicyLabel[] = "pgtier.dev/shadow-policy";
// Holds a policy that is deleted until its tables are left as deletionPolicy says and its workers are gone.
inline constexpr char kFinalizer[] = "pgtier.dev/shadow-tables";

// Deployment, ConfigMap and Secret of a tier's worker.
inline std::string NotifyWorker(const std::string& policy) { return policy + "-notify"; }
inline std::string CdcWorker(const std::string& policy) { return policy + "-cdc"; }
// Which of them a pod is of: "notify" | "cdc".
inline constexpr char kWorkerLabel[] = "pgtier.dev/worker";

// In the worker's pods.
inline constexpr char kConfigFile[] = "/etc/pgtier/worker/worker.json";
inline constexpr char kSpillFolder[] = "/var/spill";
inline constexpr char kCredentialsFolder[] = "/etc/pgtier/credentials";
inline constexpr int kWorkerPort = 8080;

}  // namespace pgtier::controllers::shadow_table
