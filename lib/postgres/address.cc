#include "lib/postgres/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <future>
#include <memory>
#include <thread>

namespace pgtier::postgres {
namespace {

bool IsSpecial4(uint32_t address) {
  uint32_t first = address >> 24;
  bool link_local = (address >> 16) == 0xa9fe;  // 169.254/16
  return first == 0 || first == 127 || first >= 224 || link_local;
}

bool IsSpecial6(const in6_addr& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address) || IN6_IS_ADDR_V4COMPAT(&address)) {
    uint32_t last = 0;
    for (int i = 12; i < 16; ++i) last = last << 8 | address.s6_addr[i];
    return IsSpecial4(last);
  }
  return IN6_IS_ADDR_LOOPBACK(&address) || IN6_IS_ADDR_UNSPECIFIED(&address) || IN6_IS_ADDR_LINKLOCAL(&address) ||
         IN6_IS_ADDR_MULTICAST(&address);
}

Result<std::vector<std::string>> Look(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  int failed = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (failed != 0) {
    bool unknown = failed == EAI_NONAME || failed == EAI_NODATA;
    return MakeError(unknown ? Code::kNotFound : Code::kUnavailable, host + ": " + gai_strerror(failed));
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (getnameinfo(each->ai_addr, each->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) == 0) {
      addresses.emplace_back(text.data());
    }
  }
  return addresses;
}

}  // namespace

Result<bool> IsSpecialAddress(const std::string& address) {
  in_addr four{};
  if (inet_pton(AF_INET, address.c_str(), &four) == 1) return IsSpecial4(ntohl(four.s_addr));
  in6_addr six{};
  // A scope ("fe80::1%eth0") is of link-local addresses only.
  if (inet_pton(AF_INET6, address.substr(0, address.find('%')).c_str(), &six) == 1) return IsSpecial6(six);
  return MakeError(Code::kInvalidArgument, "no address: " + address);
}

Result<std::vector<std::string>> ResolveHost(const std::string& host, Deadline deadline) {
  bool plain = !host.empty() && host.size() < NI_MAXHOST && std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_' || c == ':';
  });
  if (!plain) return MakeError(Code::kInvalidArgument, "neither a name nor an address");
  // getaddrinfo cannot be interrupted: where it takes too long its thread ends by itself, and nobody listens.
  auto promise = std::make_shared<std::promise<Result<std::vector<std::string>>>>();
  auto answer = promise->get_future();
  std::thread([promise, host] { promise->set_value(Look(host)); }).detach();
  if (answer.wait_for(deadline.Remaining()) != std::future_status::ready) {
    return MakeError(Code::kDeadlineExceeded, "the name " + host + " was not resolved in time");
  }
  return answer.get();
}

}  // namespace pgtier::postgres
