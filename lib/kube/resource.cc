#include "lib/kube/resource.h"

namespace pgtier::kube {

std::string PercentEncode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  constexpr std::string_view kUnreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  std::string encoded;
  encoded.reserve(text.size());
  for (char c : text) {
    if (kUnreserved.find(c) != std::string_view::npos) {
      encoded += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    encoded += '%';
    encoded += kHex[byte >> 4];
    encoded += kHex[byte & 15];
  }
  return encoded;
}

std::string Resource::ApiVersion() const {
  return group.empty() ? std::string(version) : std::string(group) + "/" + std::string(version);
}

std::string Resource::Path(std::string_view namespace_name, std::string_view name, std::string_view subresource) const {
  std::string path = (group.empty() ? "/api/" : "/apis/") + ApiVersion();
  if (namespaced && !namespace_name.empty()) path += "/namespaces/" + PercentEncode(namespace_name);
  path += "/" + std::string(plural);
  if (!name.empty()) path += "/" + PercentEncode(name);
  if (!subresource.empty()) path += "/" + std::string(subresource);
  return path;
}

std::string ObjectKey::ToString() const { return namespace_.empty() ? name : namespace_ + "/" + name; }

size_t ObjectKeyHash::operator()(const ObjectKey& key) const {
  const size_t first = std::hash<std::string>()(key.namespace_);
  const size_t second = std::hash<std::string>()(key.name);
  return first ^ (second + 0x9e3779b97f4a7c15U + (first << 6) + (first >> 2));
}

}  // namespace pgtier::kube
