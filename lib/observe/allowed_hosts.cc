#include "lib/observe/allowed_hosts.h"

#include <arpa/inet.h>
#include <fnmatch.h>
#include <netdb.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace pgtier::observe {

Result<std::string> HostOf(const std::string& url) {
  auto bad = [&] { return MakeError(Code::kInvalidArgument, "not an http or https URL: " + url); };
  size_t scheme = url.find("://");
  if (scheme == std::string::npos) return bad();
  if (std::string name = url.substr(0, scheme); name != "http" && name != "https") return bad();
  std::string authority = url.substr(scheme + 3, url.find_first_of("/?#", scheme + 3) - scheme - 3);
  // Credentials in a URL end up in logs; and what stands before an @ disguises the host.
  if (authority.find('@') != std::string::npos) return MakeError(Code::kInvalidArgument, "a URL must name no user");
  std::string host;
  if (authority.starts_with('[')) {
    size_t end = authority.find(']');
    if (end == std::string::npos) return bad();
    host = authority.substr(1, end - 1);
  } else {
    host = authority.substr(0, authority.find(':'));
  }
  if (host.empty()) return bad();
  std::transform(host.begin(), host.end(), host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return host;
}

Status AllowedHosts::Check(const std::string& url) const {
  PGTIER_ASSIGN_OR_RETURN(std::string host, HostOf(url));
  for (const std::string& pattern : patterns_) {
    if (fnmatch(pattern.c_str(), host.c_str(), 0) == 0) return {};
  }
  return MakeError(Code::kPermissionDenied, "host " + host + " is not in the operator's --allow-hosts");
}

namespace {

constexpr size_t kIpv4Bytes = 4;
constexpr size_t kIpv6Bytes = 16;

bool IsRefusedIpv4(const unsigned char* bytes) {
  constexpr unsigned char kLoopback = 127;
  constexpr unsigned char kFirstMulticast = 224;
  if (bytes[0] == 0 || bytes[0] == kLoopback || bytes[0] >= kFirstMulticast) return true;
  return bytes[0] == 169 && bytes[1] == 254;  // Link-local (RFC 3927).
}

bool IsRefusedIpv6(const std::array<unsigned char, kIpv6Bytes>& bytes) {
  auto zero = [&](size_t count) {
    return std::all_of(bytes.begin(), bytes.begin() + count, [](auto b) { return b == 0; });
  };
  constexpr size_t kMappedPrefix = 10;
  constexpr size_t kIpv4At = kIpv6Bytes - kIpv4Bytes;
  bool mapped = zero(kMappedPrefix) && bytes[10] == 0xff && bytes[11] == 0xff;
  if (mapped) return IsRefusedIpv4(bytes.data() + kIpv4At);
  if (zero(kIpv6Bytes - 1)) return bytes[15] <= 1;                 // Unspecified and loopback.
  if (bytes[0] == 0xff) return true;                               // Multicast.
  if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) return true;  // Link-local.
  // Where one cloud keeps its metadata: fd00:ec2::254.
  constexpr std::array<unsigned char, kIpv6Bytes> kMetadata = {0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0,
                                                               0,    0, 0,    0,    0, 0, 2, 0x54};
  return bytes == kMetadata;
}

bool IsAddress(const std::string& text) {
  std::array<unsigned char, kIpv6Bytes> bytes{};
  return inet_pton(AF_INET, text.c_str(), bytes.data()) == 1 || inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1;
}

// What the thread that resolves leaves for who waits for it; the resolver's own timeouts know nothing of deadlines.
struct Lookup {
  std::mutex mutex;
  std::condition_variable done;
  std::optional<std::vector<std::string>> addresses;
};

std::vector<std::string> Ask(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  std::vector<std::string> addresses;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return addresses;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (getnameinfo(each->ai_addr, each->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0)
      continue;
    addresses.emplace_back(text.data());
  }
  freeaddrinfo(found);
  return addresses;
}

}  // namespace

bool IsRefusedAddress(const std::string& address) {
  std::array<unsigned char, kIpv6Bytes> bytes{};
  // A zone ("fe80::1%eth0") is of link-local addresses only.
  if (address.find('%') != std::string::npos) return true;
  if (inet_pton(AF_INET, address.c_str(), bytes.data()) == 1) return IsRefusedIpv4(bytes.data());
  if (inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) return IsRefusedIpv6(bytes);
  return true;
}

Result<std::vector<std::string>> AddressesOf(const std::string& host, Deadline deadline) {
  if (IsAddress(host)) return std::vector<std::string>{host};
  auto lookup = std::make_shared<Lookup>();
  std::thread([lookup, host] {
    std::vector<std::string> addresses = Ask(host);
    std::lock_guard lock(lookup->mutex);
    lookup->addresses = std::move(addresses);
    lookup->done.notify_all();
  }).detach();
  std::unique_lock lock(lookup->mutex);
  if (!lookup->done.wait_until(lock, deadline.at(), [&] { return lookup->addresses.has_value(); })) {
    return MakeError(Code::kDeadlineExceeded, "the name " + host + " was not resolved in time");
  }
  if (lookup->addresses->empty()) return MakeError(Code::kNotFound, "there is no host " + host);
  return *lookup->addresses;
}

Result<std::string> AllowedHosts::Resolve(const std::string& url, Deadline deadline) const {
  if (Status allowed = Check(url); !allowed.has_value()) {
    const char* reason = allowed.error().code == Code::kPermissionDenied ? "HostNotAllowed: " : "BadUrl: ";
    return MakeError(allowed.error().code, reason + allowed.error().message);
  }
  std::string host = *HostOf(url);
  bool literal = IsAddress(host) && std::find(patterns_.begin(), patterns_.end(), host) != patterns_.end();
  if (literal) return host;
  Result<std::vector<std::string>> addresses = AddressesOf(host, deadline);
  if (!addresses.has_value()) {
    return MakeError(addresses.error().code, "HostNotFound: " + addresses.error().message);
  }
  for (const std::string& address : *addresses) {
    if (!IsRefusedAddress(address) && std::find(refused_.begin(), refused_.end(), address) == refused_.end()) continue;
    return MakeError(Code::kPermissionDenied, "AddressRefused: " + host + " is " + address +
                                                  ", which is loopback, link-local or the API server's");
  }
  // IPv4 where there is a choice: the HTTP library takes no IPv6 address.
  auto first = std::find_if(addresses->begin(), addresses->end(),
                            [](const std::string& address) { return address.find(':') == std::string::npos; });
  return first == addresses->end() ? addresses->front() : *first;
}

}  // namespace pgtier::observe
