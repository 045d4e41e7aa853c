/* A disk that fails: FAULT=CALL:N:ERROR makes the N-th write, fsync, rename or read below FAULT_UNDER fail, and
   says so to the descriptor FAULT_MARK. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static long reached = 0;

static int fails(const char *call, const char *path) {
    const char *fault = getenv("FAULT"), *under = getenv("FAULT_UNDER");
    size_t length = strlen(call);
    if (!fault || !under || strncmp(fault, call, length) || fault[length] != ':' || strncmp(path, under, strlen(under)))
        return 0;
    if (__sync_add_and_fetch(&reached, 1) != atol(fault + length + 1))
        return 0;
    if (getenv("FAULT_MARK"))
        syscall(SYS_write, atoi(getenv("FAULT_MARK")), "reached", (size_t)7);
    errno = strstr(fault, "ENOSPC") ? ENOSPC : EIO;
    return 1;
}

static int fd_fails(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    if (!getenv("FAULT"))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return fails(call, path);
}

#define PLAIN(name, type) static __typeof__(type) *plain; if (!plain) plain = (__typeof__(type) *)dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size) {
    PLAIN("write", ssize_t (int, const void *, size_t));
    return fd_fails("write", fd) ? -1 : plain(fd, data, size);
}

ssize_t read(int fd, void *data, size_t size) {
    PLAIN("read", ssize_t (int, void *, size_t));
    return fd_fails("read", fd) ? -1 : plain(fd, data, size);
}

int fsync(int fd) {
    PLAIN("fsync", int (int));
    return fd_fails("fsync", fd) ? -1 : plain(fd);
}

int rename(const char *from, const char *to) {
    PLAIN("rename", int (const char *, const char *));
    return fails("rename", to) ? -1 : plain(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    PLAIN("renameat", int (int, const char *, int, const char *));
    return fails("rename", to) ? -1 : plain(from_folder, from, to_folder, to);
}
