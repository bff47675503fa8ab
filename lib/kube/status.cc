// What the API server's refusals mean (metav1.Status).
#include "lib/kube/client.h"
#include "lib/kube/json.h"

namespace pgtier::kube {
namespace {

Code CodeOf(int http_status, const std::string& reason) {
  switch (http_status) {
    case 400:
    case 413:
    case 422:
      return Code::kInvalidArgument;
    case 401:
      return Code::kUnauthenticated;
    case 403:
      return Code::kPermissionDenied;
    case 404:
      return Code::kNotFound;
    case 405:
    case 406:
    case 415:
    case 501:
      return Code::kUnimplemented;
    case 409:
      return reason == "AlreadyExists" ? Code::kAlreadyExists : Code::kAborted;
    case 410:
      return Code::kFailedPrecondition;
    case 408:
    case 504:
      return Code::kDeadlineExceeded;
    case 429:
      return Code::kUnavailable;
    default:
      return http_status >= 500 ? Code::kUnavailable : Code::kInternal;
  }
}

}  // namespace

Error ErrorFromStatus(int http_status, std::string_view body, std::string_view what) {
  constexpr size_t kExcerptBytes = 200;
  std::string message = std::string(what) + ": HTTP " + std::to_string(http_status);
  std::string reason;
  auto status = ParseJson(body);
  if (status.has_value() && StringAt(*status, {"kind"}) == "Status") {
    reason = StringAt(*status, {"reason"});
    if (!reason.empty()) message += " " + reason;
    message += ": " + StringAt(*status, {"message"});
  } else if (!body.empty()) {
    message += ": " + std::string(body.substr(0, kExcerptBytes));
  }
  return MakeError(CodeOf(http_status, reason), std::move(message));
}

}  // namespace pgtier::kube
