// What sanitizers report of cpprestsdk and OpenSSL, which are not built with them. Add this file to the SOURCES of a
// test program that uses lib/http.
#ifdef __SANITIZE_THREAD__
// Reference counts that the library, uninstrumented, and its headers, instrumented, both let go of: ThreadSanitizer
// sees one half of each handshake. The same of the state of its tasks, which goes with the last count.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:_CancellationTokenCallback\n"
         "race:_CancellationTokenRegistration\n"
         "race:asio_context\n"
         "race:std::_Sp_counted_ptr_inplace<pplx::details::*::_M_destroy\n"
         "race:std::_Sp_counted_ptr_inplace<pplx::details::*::_M_dispose\n"
         "race:CRYPTO_THREAD_lock_free\n";
}
#endif

#ifdef PGTIER_ADDRESS_SANITIZER
// No search for leaks at the end of programs with this library in them: its pool still holds tasks and OpenSSL's state
// of each I/O thread then, and the search, which stops all threads, has been seen spinning for ever over them. Memory
// errors are found all the same; all other test programs search for leaks. A leak of connections would show in RSS.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
#endif
