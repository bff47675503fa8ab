#include "workers/config.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lib/base/quantity.h"
#include "lib/base/time_format.h"

namespace pgtier::workers {
namespace {

using nlohmann::json;

constexpr int64_t kMostRows = 100'000;

// Reads fields of one object; the first thing that is wrong is kept.
class Reader {
 public:
  Reader(const json& object, std::string path, std::optional<Error>* error)
      : object_(object), path_(std::move(path)), error_(error) {}

  void Text(const char* name, std::string& to, bool required = false) {
    const json* value = Find(name, required);
    if (value == nullptr) return;
    if (!value->is_string()) return Fail(name, "is no text");
    to = value->get<std::string>();
    if (required && to.empty()) Fail(name, "is empty");
  }
  void Number(const char* name, int64_t& to, int64_t least, int64_t most) {
    const json* value = Find(name, false);
    if (value == nullptr) return;
    if (!value->is_number_integer()) return Fail(name, "is no whole number");
    int64_t number = value->get<int64_t>();
    if (number < least || number > most) {
      return Fail(name, "is not between " + std::to_string(least) + " and " + std::to_string(most));
    }
    to = number;
  }
  void Time(const char* name, Duration& to) {
    std::string text;
    this->Text(name, text);
    if (text.empty()) return;
    auto duration = ParseDuration(text);
    if (!duration.has_value() || *duration <= Duration::zero()) return Fail(name, "is no duration such as 100ms");
    to = *duration;
  }
  void Bytes(const char* name, int64_t& to) {
    std::string text;
    this->Text(name, text);
    if (text.empty()) return;
    auto bytes = ParseQuantity(text);
    if (!bytes.has_value() || *bytes < 1) return Fail(name, "is no number of bytes such as 16Mi");
    to = static_cast<int64_t>(*bytes);
  }
  Reader Object(const char* name, bool required = false) {
    static const json kNothing = json::object();
    const json* value = Find(name, required);
    if (value != nullptr && !value->is_object()) {
      Fail(name, "is no object");
      value = nullptr;
    }
    return {value == nullptr ? kNothing : *value, path_ + name + ".", error_};
  }

 private:
  const json* Find(const char* name, bool required) {
    auto found = object_.find(name);
    if (found != object_.end() && !found->is_null()) return &*found;
    if (required) Fail(name, "is missing");
    return nullptr;
  }
  void Fail(const char* name, const std::string& what) {
    if (!error_->has_value()) *error_ = MakeError(Code::kInvalidArgument, path_ + name + " " + what);
  }
  const json& object_;
  std::string path_;
  std::optional<Error>* error_;
};

}  // namespace

Result<Config> ParseConfig(std::string_view text) {
  json parsed = json::parse(text, nullptr, false);
  if (!parsed.is_object()) return MakeError(Code::kInvalidArgument, "the configuration is no JSON object");
  Config config;
  std::optional<Error> error;
  Reader root(parsed, "", &error);
  root.Text("policy", config.policy, true);
  root.Text("mode", config.mode, true);
  root.Text("channel", config.channel);
  root.Text("slot", config.slot);
  root.Text("publication", config.publication);
  root.Time("stallAfter", config.stall_limit);
  Reader database = root.Object("database", true);
  database.Text("host", config.database.host, true);
  int64_t port = config.database.port;
  database.Number("port", port, 1, 65535);
  config.database.port = static_cast<int>(port);
  database.Text("name", config.database.name, true);
  database.Text("user", config.database.user, true);
  database.Text("passwordFile", config.database.password_file);
  database.Text("sslMode", config.database.ssl_mode);
  database.Text("caFile", config.database.ca_file);
  Reader batch = root.Object("batch");
  batch.Number("rows", config.batch_rows, 1, kMostRows);
  batch.Time("interval", config.batch_interval);
  Reader sleep = root.Object("sleep");
  sleep.Time("after", config.awake);
  sleep.Time("most", config.asleep);
  Reader spill = root.Object("spill");
  spill.Bytes("memory", config.spill_memory);
  spill.Text("directory", config.spill_directory);
  Reader listen = root.Object("listen");
  listen.Text("address", config.listen_address);
  int64_t listen_port = config.listen_port;
  listen.Number("port", listen_port, 0, 65535);
  config.listen_port = static_cast<uint16_t>(listen_port);
  if (error.has_value()) return *std::move(error);
  return config;
}

Result<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file) return MakeError(Code::kUnavailable, "can't read " + path);
  return std::move(text).str();
}

Result<postgres::ConnectOptions> ConnectOptionsOf(const Config& config) {
  postgres::ConnectOptions options;
  options.host = config.database.host;
  options.port = config.database.port;
  options.database = config.database.name;
  options.user = config.database.user;
  options.ssl_mode = config.database.ssl_mode;
  options.application_name = "pgtier-worker";
  if (!config.database.password_file.empty()) {
    PGTIER_ASSIGN_OR_RETURN(options.password, ReadFile(config.database.password_file));
    while (!options.password.empty() && (options.password.back() == '\n' || options.password.back() == '\r')) {
      options.password.pop_back();
    }
  }
  if (!config.database.ca_file.empty()) {
    PGTIER_ASSIGN_OR_RETURN(options.ssl_root_pem, ReadFile(config.database.ca_file));
  }
  return options;
}

}  // namespace pgtier::workers
