cmake_minimum_required(VERSION 3.20.0)

# the module is two folders up
list(APPEND EXTRA_ZEPHYR_MODULES ${CMAKE_CURRENT_SOURCE_DIR}/../..)
find_package(Zephyr REQUIRED HINTS $ENV{ZEPHYR_BASE})
project(golden LANGUAGES C)
target_sources(app PRIVATE src/main.c)
