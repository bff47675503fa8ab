// The consumer of cdc as a process of its own, for tests that kill it: host, port, database, user, password, policy,
// slot.
#include <cstdlib>

#include "workers/cdc/consumer.h"

int main(int argc, char** argv) {
  if (argc != 8) return 2;
  pgtier::workers::CdcOptions options;
  options.database.host = argv[1];
  options.database.port = std::atoi(argv[2]);
  options.database.database = argv[3];
  options.database.user = argv[4];
  options.database.password = argv[5];
  options.policy = argv[6];
  options.slot = argv[7];
  options.publication = "pgtier_" + options.slot;
  options.spill.memory = size_t{256} << 10U;
  options.batch_interval = std::chrono::milliseconds(20);
  options.silence = std::chrono::seconds(5);
  options.idle_save = std::chrono::seconds(1);
  pgtier::workers::CdcConsumer consumer(options, nullptr);
  consumer.Run({});
  return 0;
}
