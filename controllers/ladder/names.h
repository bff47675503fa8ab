// Labels and annotations that every policy with a ladder knows.
#pragma once

namespace pgtier::controllers {

inline constexpr char kUseLabel[] = "pgtier.dev/use";         // on Secrets that pgtier may read: postgres | http
inline constexpr char kHashAnnotation[] = "pgtier.dev/hash";  // of an object as it was rendered
inline constexpr char kPausedAnnotation[] = "pgtier.dev/paused";
inline constexpr char kApproveAnnotation[] = "pgtier.dev/approve";  // on policies: hash of the plan that may run

}  // namespace pgtier::controllers
