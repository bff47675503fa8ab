# Compiler settings shared by every target, and the one way a folder becomes a target.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

option(PGTIER_TESTS "Build the tests" ON)
set(PGTIER_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize takes them: address,undefined or thread")

# Unity builds, ccache and mold take a build on two cores from minutes to about one (docs/architecture.md).
find_program(PGTIER_CCACHE ccache)
if(PGTIER_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PGTIER_CCACHE})
endif()
find_program(PGTIER_MOLD mold)
if(PGTIER_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wimplicit-fallthrough)
if(PGTIER_SANITIZE)
  add_compile_options(-fsanitize=${PGTIER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PGTIER_SANITIZE})
  # With sanitizers and optimisation g++ 12 warns of members of std::function that it cannot see being set (GCC's manual,
  # -fsanitize: "may produce false positives").
  add_compile_options(-Wno-maybe-uninitialized)
else()
  add_compile_options(-fstack-protector-strong)
  add_compile_definitions($<$<CONFIG:Release>:_FORTIFY_SOURCE=2>)
  add_link_options(-Wl,-z,relro,-z,now)
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(cpprestsdk REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(spdlog REQUIRED)
find_package(tl-expected REQUIRED)
find_package(PostgreSQL REQUIRED)
find_package(CLI11 REQUIRED)

# pgtier_library(<name> SOURCES <file>... [PUBLIC <target>...] [PRIVATE <target>...])
# A static library of this folder's sources, named pgtier_<name>; included from the repository's root
# ("lib/base/result.h"), so an include says which folder it crosses into.
function(pgtier_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(pgtier_${name} STATIC ${ARG_SOURCES})
  target_include_directories(pgtier_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(pgtier_${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  set_target_properties(pgtier_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
endfunction()

# pgtier_program(<name> SOURCES <file>... LINK <target>...)
# A program; `cmake --install` puts it into bin/, from where the image takes it.
function(pgtier_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()
