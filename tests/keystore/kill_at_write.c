/* Ends the process at a chosen write: `kill_at(n, torn)` has the n-th call from now on that writes
 * below KILL_UNDER end it with status 137, before the call or, with `torn`, half-way through it.
 * `writes_so_far()` counts them. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long at = 0, seen = 0;
static int tearing = 0;

void kill_at(long n, int torn) { at = n; seen = 0; tearing = torn; }
long writes_so_far(void) { return seen; }

static int below(const char *path) {
    const char *folder = getenv("KILL_UNDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int watched(int fd) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* Whether this is the call to end at. */
static int reached(int counts) { return counts && ++seen == at; }
static int end(void) { _exit(137); }

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (reached(watched(fd))) { if (tearing) real(fd, data, size / 2); end(); }
    return real(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (reached(watched(fd))) { if (tearing) real(fd, data, size / 2, offset); end(); }
    return real(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (reached(watched(fd))) { if (tearing) real(fd, data, size / 2, offset); end(); }
    return real(fd, data, size, offset);
}

int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    if (reached(watched(fd))) end();
    return real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    if (reached(watched(fd))) end();
    return real(fd, size);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    if (reached(watched(fd))) end();
    return real(fd);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    if (reached(watched(fd))) end();
    return real(fd);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (reached(below(from))) end();
    return real(from, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (reached(below(path))) end();
    return real(path);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    if (reached(below(path))) end();
    return real(path, mode);
}
