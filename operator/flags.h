// Command line of pgtier-operator.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pgtier {

struct Flags {
  std::string kubeconfig;
  std::string watch_namespace;  // Empty: all.
  bool leader_elect = true;
  std::string lease_name = "pgtier-operator";
  std::string lease_namespace;  // Empty: the pod's own.
  std::string listen_address = "::";
  uint16_t port = 8080;
  int workers = 16;
  std::vector<std::string> allow_hosts;
  bool network_policies = false;
  std::string postgres_image;
  std::string pgbouncer_image;
  std::string pgcat_image;
  std::string worker_image;
  std::string log_level = "info";
};

// Parses the command line. Prints help or what is wrong and gives the exit code when the program should end now.
std::optional<int> ParseFlags(int argc, char** argv, Flags& flags);

}  // namespace pgtier
