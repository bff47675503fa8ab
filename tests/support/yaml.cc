#include "tests/support/yaml.h"

#include <yaml-cpp/yaml.h>

#include <cstdio>
#include <cstdlib>

namespace pgtier::tests {
namespace {

nlohmann::json Scalar(const YAML::Node& node) {
  // yaml-cpp tags a quoted scalar "!".
  if (node.Tag() == "!") return node.Scalar();
  if (long long number = 0; YAML::convert<long long>::decode(node, number)) return number;
  if (double number = 0; YAML::convert<double>::decode(node, number)) return number;
  if (bool truth = false; YAML::convert<bool>::decode(node, truth)) return truth;
  return node.Scalar();
}

nlohmann::json Convert(const YAML::Node& node) {
  if (node.IsMap()) {
    nlohmann::json object = nlohmann::json::object();
    for (const auto& member : node) {
      if (member.first.Scalar() != "<<") object[member.first.Scalar()] = Convert(member.second);
    }
    // A merge key gives what the map does not say itself (YAML 1.1; yaml-cpp leaves it alone).
    if (const YAML::Node merged = node["<<"]) {
      nlohmann::json base = Convert(merged);
      base.update(object);
      return base;
    }
    return object;
  }
  if (node.IsSequence()) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& item : node) list.push_back(Convert(item));
    return list;
  }
  return node.IsScalar() ? Scalar(node) : nlohmann::json();
}

}  // namespace

nlohmann::json LoadYaml(const std::string& path_in_source) {
  std::string path = std::string(PGTIER_SOURCE_DIR) + "/" + path_in_source;
  try {
    return Convert(YAML::LoadFile(path));
  } catch (const YAML::Exception& error) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), error.what());
    std::exit(2);
  }
}

}  // namespace pgtier::tests
