// kubeconfig files and what exec plugins print: anything is a configuration or an error.
#include <cstdint>
#include <cstdlib>

#include "lib/kube/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto config = pgtier::kube::ParseKubeconfig(text, "/nonexistent");
  if (config.has_value() && config->server.empty()) abort();
  std::ignore = pgtier::kube::ParseExecCredential(text, "client.authentication.k8s.io/v1");
  return 0;
}
