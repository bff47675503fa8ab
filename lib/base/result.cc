#include "lib/base/result.h"

namespace pgtier {

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kUnavailable:
      return "UNAVAILABLE";
    case Code::kAborted:
      return "ABORTED";
    case Code::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case Code::kNotFound:
      return "NOT_FOUND";
    case Code::kAlreadyExists:
      return "ALREADY_EXISTS";
    case Code::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case Code::kPermissionDenied:
      return "PERMISSION_DENIED";
    case Code::kUnauthenticated:
      return "UNAUTHENTICATED";
    case Code::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case Code::kCancelled:
      return "CANCELLED";
    case Code::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case Code::kUnimplemented:
      return "UNIMPLEMENTED";
    case Code::kInternal:
      return "INTERNAL";
  }
  return "UNKNOWN";
}

}  // namespace pgtier
