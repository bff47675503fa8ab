// YAML files of the tests as JSON documents.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace pgtier::tests {

// The first document of a file below the source tree. Quoted scalars are strings; plain ones what YAML 1.2's core
// schema makes of them. Ends the test program on an unreadable file: nothing could be tested.
nlohmann::json LoadYaml(const std::string& path_in_source);

}  // namespace pgtier::tests
