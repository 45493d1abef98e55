/* Ends the process at the n-th call that changes a file, counted from kill_from(n) on; 0 counts
   only. Preloaded into a Python process, it sees the calls of SQLite as well. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

static long calls, last = -1;

void kill_from(long at)
{
    calls = 0;
    last = at;
}

long kill_calls(void)
{
    return calls;
}

static void count(void)
{
    if (last < 0)
        return;
    calls++;
    if (calls == last)
        _exit(137);
}

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size)
{
    NEXT(write);
    if (fd > 2)
        count();
    return next(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    NEXT(pwrite);
    count();
    return next(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    NEXT(pwrite64);
    count();
    return next(fd, data, size, at);
}

int ftruncate(int fd, off_t size)
{
    NEXT(ftruncate);
    count();
    return next(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    NEXT(ftruncate64);
    count();
    return next(fd, size);
}

int fsync(int fd)
{
    NEXT(fsync);
    count();
    return next(fd);
}

int fdatasync(int fd)
{
    NEXT(fdatasync);
    count();
    return next(fd);
}

int rename(const char *from, const char *to)
{
    NEXT(rename);
    count();
    return next(from, to);
}

int unlink(const char *path)
{
    NEXT(unlink);
    count();
    return next(path);
}
