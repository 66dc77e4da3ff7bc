/* Lets one call to the file system fail. To be loaded with LD_PRELOAD.
 *
 * MCMOE_FAULT_ROOT   an absolute path: only files below it count
 * MCMOE_FAULT_KIND   which calls count: "read" or "write"
 * MCMOE_FAULT_CALL   the one of them that fails, from 1; none does without it
 * MCMOE_FAULT_ERRNO  how it fails: "EIO", as without it, or "ENOSPC"
 * MCMOE_FAULT_LOG    a file to be told which call failed, and at exit how many there were
 *
 * Standard streams never fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *root, *kind, *log_path;
static long failing;
static int reason = EIO;
static atomic_long calls;

__attribute__((constructor)) static void begin(void) {
    const char *call = getenv("MCMOE_FAULT_CALL"), *name = getenv("MCMOE_FAULT_ERRNO");
    failing = call ? atol(call) : 0;
    reason = name && !strcmp(name, "ENOSPC") ? ENOSPC : EIO;
    log_path = getenv("MCMOE_FAULT_LOG");
    kind = getenv("MCMOE_FAULT_KIND");
    root = kind ? getenv("MCMOE_FAULT_ROOT") : NULL;
}

static void tell(const char *what, const char *of) {
    FILE *file = log_path ? fopen(log_path, "a") : NULL;
    if (file) {
        fprintf(file, "%s %s\n", what, of);
        fclose(file);
    }
}

__attribute__((destructor)) static void end(void) {
    char number[32];
    snprintf(number, sizeof number, "%ld", atomic_load(&calls));
    tell("calls", number);
}

/* Whether this call of a kind, on this path, is to fail; errno is then set. */
static int fails(const char *of, const char *call, const char *path) {
    size_t length = root ? strlen(root) : 0;
    if (!length || strcmp(kind, of) || strncmp(path, root, length)) return 0;
    if (path[length] && path[length] != '/') return 0;
    if (atomic_fetch_add(&calls, 1) + 1 != failing) return 0;
    tell(call, path);
    errno = reason;
    return 1;
}

static int fails_at(const char *of, const char *call, int fd) {
    char link[64], path[PATH_MAX];
    if (!root || fd <= STDERR_FILENO) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int before = errno;
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return fails(of, call, path);
}

static int fails_on(const char *of, const char *call, const char *path) {
    char absolute[PATH_MAX];
    if (!root || *path == '/') return fails(of, call, path);
    if (!getcwd(absolute, sizeof absolute) || strlen(absolute) + strlen(path) + 2 > sizeof absolute) return 0;
    strcat(strcat(absolute, "/"), path);
    return fails(of, call, absolute);
}

/* The function of this name that is hidden by the one here. */
#define REAL(name)                        \
    static __typeof__(&name) real;        \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define ON_DESCRIPTOR(of, result, name, parameters, arguments) \
    result name parameters {                                   \
        REAL(name);                                            \
        return fails_at(of, #name, fd) ? -1 : real arguments;  \
    }

#define ON_PATH(of, name, parameters, arguments)               \
    int name parameters {                                      \
        REAL(name);                                            \
        return fails_on(of, #name, path) ? -1 : real arguments; \
    }

ON_DESCRIPTOR("read", ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
ON_DESCRIPTOR("read", ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
ON_DESCRIPTOR("read", ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
ON_DESCRIPTOR("read", ssize_t, readv, (int fd, const struct iovec *to, int n), (fd, to, n))

ON_DESCRIPTOR("write", ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
ON_DESCRIPTOR("write", ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
ON_DESCRIPTOR("write", ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))
ON_DESCRIPTOR("write", ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n))
ON_DESCRIPTOR("write", int, fsync, (int fd), (fd))
ON_DESCRIPTOR("write", int, fdatasync, (int fd), (fd))
ON_DESCRIPTOR("write", int, ftruncate, (int fd, off_t length), (fd, length))
ON_DESCRIPTOR("write", int, ftruncate64, (int fd, off64_t length), (fd, length))

ON_PATH("write", mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH("write", rename, (const char *from, const char *path), (from, path))
ON_PATH("write", linkat, (int a, const char *from, int b, const char *path, int flags),
        (a, from, b, path, flags))

/* Copies within the kernel read and write. */
#define COPY(name, parameters, arguments)                                                        \
    ssize_t name parameters {                                                                    \
        REAL(name);                                                                              \
        return fails_at("read", #name, in) || fails_at("write", #name, out) ? -1 : real arguments; \
    }

COPY(copy_file_range, (int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags),
     (in, from, out, to, n, flags))
COPY(sendfile, (int out, int in, off_t *from, size_t n), (out, in, from, n))
COPY(sendfile64, (int out, int in, off64_t *from, size_t n), (out, in, from, n))

/* Opening writes if it makes a file or empties one. */
#define OPEN(name)                                                                          \
    int name(const char *path, int flags, ...) {                                            \
        REAL(name);                                                                         \
        mode_t mode = 0;                                                                    \
        if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {                          \
            va_list rest;                                                                   \
            va_start(rest, flags);                                                          \
            mode = va_arg(rest, mode_t);                                                    \
            va_end(rest);                                                                   \
        }                                                                                   \
        int writes = flags & (O_CREAT | O_TRUNC);                                           \
        return writes && fails_on("write", #name, path) ? -1 : real(path, flags, mode);     \
    }

OPEN(open)
OPEN(open64)
