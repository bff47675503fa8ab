#include "workers/config.h"

#include "lib/settings/json_reader.h"

namespace pgtier::workers {
namespace {

constexpr int64_t kMostRows = 100'000;

}  // namespace

Result<Config> ParseConfig(std::string_view text) {
  nlohmann::json parsed = nlohmann::json::parse(text, nullptr, false);
  if (!parsed.is_object()) return MakeError(Code::kInvalidArgument, "the configuration is no JSON object");
  Config config;
  std::optional<Error> error;
  settings::JsonReader root(parsed, "", &error);
  root.Text("policy", config.policy, true);
  root.Text("mode", config.mode, true);
  root.Text("channel", config.channel);
  std::string delivery = "Outbox";
  root.Text("delivery", delivery);
  if (delivery != "Outbox" && delivery != "Payload") root.Fail("delivery", "is neither Outbox nor Payload");
  config.payload = delivery == "Payload";
  root.Text("slot", config.slot);
  root.Text("publication", config.publication);
  root.Time("stallAfter", config.stall_limit);
  config.database = settings::ReadDatabase(root.Object("database", true));
  settings::JsonReader batch = root.Object("batch");
  batch.Number("rows", config.batch_rows, 1, kMostRows);
  batch.Time("interval", config.batch_interval);
  settings::JsonReader sleep = root.Object("sleep");
  sleep.Time("after", config.awake);
  sleep.Time("most", config.asleep);
  settings::JsonReader spill = root.Object("spill");
  spill.Bytes("memory", config.spill_memory);
  spill.Text("directory", config.spill_directory);
  settings::JsonReader listen = root.Object("listen");
  listen.Text("address", config.listen_address);
  int64_t listen_port = config.listen_port;
  listen.Number("port", listen_port, 0, 65535);
  config.listen_port = static_cast<uint16_t>(listen_port);
  if (error.has_value()) return *std::move(error);
  return config;
}

Result<postgres::ConnectOptions> ConnectOptionsOf(const Config& config) {
  return settings::ConnectOptionsOf(config.database, "pgtier-worker");
}

}  // namespace pgtier::workers
