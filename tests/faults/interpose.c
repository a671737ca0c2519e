/* Stands between the server and the C library (LD_PRELOAD), for the tests in this folder.
 *
 * Every call that changes a file below FAULT_FOLDER is counted; the ones from `first` to `last` fail with `error`, or end
 * the process. With FAULT_JOURNAL it notes what a power cut would take away: each change, what was there before, and
 * each sync. The wall clock is off by `clock_seconds`, the one that never jumps by `passed_seconds`, and syncs take
 * `sync_micros` longer. FAULT_CONTROL is a file of 88 octets that the test writes while the server runs; interpose.rs
 * knows its layout.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    uint64_t calls;
    uint64_t first;
    uint64_t last;
    uint64_t failed;
    uint64_t kinds;
    uint64_t error; /* errno; 0: the process ends */
    uint64_t half;  /* a write that fails has written half of its octets */
    int64_t clock_seconds;
    uint64_t sync_micros;
    uint64_t journal_failed;
    int64_t passed_seconds;
};

enum kind { K_WRITE = 1, K_SYNC = 2, K_OPEN = 4, K_RENAME = 8, K_TRUNCATE = 16, K_FOLDER = 32, K_READ = 64 };
enum record { R_WRITE = 1, R_SYNC = 2, R_CREATE = 3, R_RENAME = 4, R_REMOVE = 5 };

static struct control none;
static volatile struct control *control = &none;
static const char *folder;
static size_t folder_len;
static int journal = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static ssize_t real_write(int fd, const void *octets, size_t n) {
    REAL(write);
    return real(fd, octets, n);
}

static ssize_t real_pread(int fd, void *octets, size_t n, off_t at) {
    REAL(pread);
    return real(fd, octets, n, at);
}

__attribute__((constructor)) static void begin(void) {
    static int (*real_open)(const char *, int, ...);
    real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    const char *path = getenv("FAULT_CONTROL");
    int fd = path ? real_open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *mapped = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED) control = mapped;
        close(fd);
    }
    /* Not for the shell that keeps PostgreSQL running. A copy: PostgreSQL writes its title over the environment. */
    if (strcmp(program_invocation_short_name, "sh") != 0)
        folder = getenv("FAULT_FOLDER") ? strdup(getenv("FAULT_FOLDER")) : NULL;
    folder_len = folder ? strlen(folder) : 0;
    if ((path = getenv("FAULT_JOURNAL"))) journal = real_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static int is_ours(const char *path) {
    return folder && path && strncmp(path, folder, folder_len) == 0 && path[folder_len] == '/';
}

/* The path of a file below the folder that is open, or null; a log on standard error is not meant. */
static const char *path_of(int fd, char *room) {
    int before = errno;
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    REAL(readlink);
    ssize_t n = folder && fd > 2 ? real(link, room, PATH_MAX - 1) : -1;
    errno = before;
    if (n <= 0) return NULL;
    room[n] = 0;
    if (is_ours(room)) return room;
    return strcmp(room, folder) == 0 ? room : NULL;
}

/* Whether this call is one that is to fail; errno says how. */
static int fails(enum kind kind) {
    if (!(control->kinds & kind)) return 0;
    uint64_t call = __atomic_add_fetch(&control->calls, 1, __ATOMIC_SEQ_CST);
    if (!control->first || call < control->first || call > control->last) return 0;
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST);
    if (!control->error)
        for (;;) kill(getpid(), SIGKILL), pause();
    errno = (int)control->error;
    return 1;
}

/* A temporary file without a name is gone after a power cut anyway; so is the log's index in shared memory. */
static int is_noted(const char *path) {
    size_t n = path ? strlen(path) : 0;
    if (journal < 0 || !n) return 0;
    if (n > 4 && strcmp(path + n - 4, "-shm") == 0) return 0;
    return !(n > 10 && strcmp(path + n - 10, " (deleted)") == 0);
}

/* Appends one record. The caller holds the lock, or there is nothing to hold. */
static void note(enum record kind, const char *path, uint64_t at, uint64_t size_before, const void *data, uint64_t n) {
    int before = errno;
    uint64_t head[5] = {kind, strlen(path), at, size_before, n};
    char *record = malloc(sizeof head + head[1] + n);
    if (!record) abort();
    memcpy(record, head, sizeof head);
    memcpy(record + sizeof head, path, head[1]);
    if (n) memcpy(record + sizeof head + head[1], data, n);
    size_t all = sizeof head + head[1] + n;
    if (real_write(journal, record, all) != (ssize_t)all) control->journal_failed = 1;
    free(record);
    errno = before;
}

/* What stands where something is about to be written or cut off, and how long the file is. */
static void note_write(int fd, const char *path, uint64_t at, uint64_t n) {
    struct stat now;
    if (fstat(fd, &now) != 0) return;
    uint64_t size = (uint64_t)now.st_size;
    uint64_t there = at >= size ? 0 : (size - at < n ? size - at : n);
    char *old = there ? malloc(there) : NULL;
    if (there) {
        /* The descriptor may be for writing alone. */
        char link[40];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        static int (*real_open)(const char *, int, ...);
        real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
        int reader = real_open(link, O_RDONLY | O_CLOEXEC);
        if (reader < 0 || real_pread(reader, old, there, (off_t)at) != (ssize_t)there) control->journal_failed = 1;
        if (reader >= 0) close(reader);
    }
    note(R_WRITE, path, at, size, old, there);
    free(old);
}

static ssize_t put(int fd, const void *octets, size_t n, off_t at, int has_place) {
    static ssize_t (*pwrite_)(int, const void *, size_t, off_t);
    if (!pwrite_) pwrite_ = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    char room[PATH_MAX];
    const char *path = path_of(fd, room);
    if (!path) return has_place ? pwrite_(fd, octets, n, at) : real_write(fd, octets, n);
    int before = errno;
    int failing = fails(K_WRITE);
    int why = errno;
    if (failing && !(control->half && n > 1)) return -1;
    if (failing) n /= 2;
    errno = before;
    int noted = is_noted(path);
    if (noted) pthread_mutex_lock(&lock);
    if (noted) {
        int flags = fcntl(fd, F_GETFL);
        struct stat now;
        off_t place = has_place ? at : lseek(fd, 0, SEEK_CUR);
        if (!has_place && (flags & O_APPEND) && fstat(fd, &now) == 0) place = now.st_size;
        note_write(fd, path, (uint64_t)place, n);
    }
    ssize_t done = has_place ? pwrite_(fd, octets, n, at) : real_write(fd, octets, n);
    if (noted) pthread_mutex_unlock(&lock);
    if (!failing) return done;
    errno = why;
    return -1;
}

ssize_t write(int fd, const void *octets, size_t n) { return put(fd, octets, n, 0, 0); }
ssize_t pwrite(int fd, const void *octets, size_t n, off_t at) { return put(fd, octets, n, at, 1); }
ssize_t pwrite64(int fd, const void *octets, size_t n, off_t at) { return put(fd, octets, n, at, 1); }

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    REAL(writev);
    char room[PATH_MAX];
    if (!path_of(fd, room)) return real(fd, pieces, count);
    for (int i = 0; i < count; i++)
        if (pieces[i].iov_len) return put(fd, pieces[i].iov_base, pieces[i].iov_len, 0, 0);
    return 0;
}

static ssize_t take(int fd, void *octets, size_t n, off_t at, int has_place) {
    static ssize_t (*read_)(int, void *, size_t);
    if (!read_) read_ = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    char room[PATH_MAX];
    if ((control->kinds & K_READ) && path_of(fd, room) && fails(K_READ)) return -1;
    return has_place ? real_pread(fd, octets, n, at) : read_(fd, octets, n);
}

ssize_t read(int fd, void *octets, size_t n) { return take(fd, octets, n, 0, 0); }
ssize_t pread(int fd, void *octets, size_t n, off_t at) { return take(fd, octets, n, at, 1); }
ssize_t pread64(int fd, void *octets, size_t n, off_t at) { return take(fd, octets, n, at, 1); }

static int sync_file(int fd, int (*real)(int)) {
    char room[PATH_MAX];
    const char *path = path_of(fd, room);
    if (!path) return real(fd);
    if (fails(K_SYNC)) return -1;
    int noted = is_noted(path);
    if (noted) pthread_mutex_lock(&lock);
    /* What a sync that fails has done nobody knows: for the power cut it has done nothing. */
    int done = real(fd);
    if (noted && done == 0) note(R_SYNC, path, 0, 0, NULL, 0);
    if (noted) pthread_mutex_unlock(&lock);
    if (control->sync_micros) usleep((useconds_t)control->sync_micros);
    return done;
}

int fsync(int fd) {
    REAL(fsync);
    return sync_file(fd, real);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return sync_file(fd, real);
}

static int cut(int fd, off_t size) {
    static int (*real)(int, off_t);
    if (!real) real = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate64");
    char room[PATH_MAX];
    const char *path = path_of(fd, room);
    if (!path) return real(fd, size);
    if (fails(K_TRUNCATE)) return -1;
    int noted = is_noted(path);
    if (noted) pthread_mutex_lock(&lock);
    if (noted) note_write(fd, path, (uint64_t)size, UINT64_MAX / 2);
    int done = real(fd, size);
    if (noted) pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off_t size) { return cut(fd, size); }

static int open_file(int from, const char *path, int flags, mode_t mode, const char *name) {
    int (*real)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, name);
    int makes = (flags & O_CREAT) != 0;
    if (!is_ours(path) || !makes) return real(from, path, flags, mode);
    if (fails(K_OPEN)) return -1;
    int noted = is_noted(path);
    struct stat there;
    if (noted) pthread_mutex_lock(&lock);
    int before = errno;
    if (noted && stat(path, &there) != 0) note(R_CREATE, path, 0, 0, NULL, 0);
    errno = before;
    int fd = real(from, path, flags, mode);
    if (noted) pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN_MODE(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    OPEN_MODE(flags, mode);
    return open_file(AT_FDCWD, path, flags, mode, "openat");
}

int open64(const char *path, int flags, ...) {
    OPEN_MODE(flags, mode);
    return open_file(AT_FDCWD, path, flags, mode, "openat64");
}

int openat(int from, const char *path, int flags, ...) {
    OPEN_MODE(flags, mode);
    return open_file(from, path, flags, mode, "openat");
}

int openat64(int from, const char *path, int flags, ...) {
    OPEN_MODE(flags, mode);
    return open_file(from, path, flags, mode, "openat64");
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!is_ours(from)) return real(from, to);
    if (fails(K_RENAME)) return -1;
    int noted = is_noted(from);
    if (noted) pthread_mutex_lock(&lock);
    if (noted) note(R_RENAME, from, 0, 0, to, strlen(to));
    int done = real(from, to);
    if (noted) pthread_mutex_unlock(&lock);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (!is_ours(path)) return real(path, mode);
    if (fails(K_FOLDER)) return -1;
    int noted = is_noted(path);
    struct stat there;
    if (noted) pthread_mutex_lock(&lock);
    if (noted && stat(path, &there) != 0) note(R_CREATE, path, 0, 0, NULL, 0);
    int done = real(path, mode);
    if (noted) pthread_mutex_unlock(&lock);
    return done;
}

int unlink(const char *path) {
    REAL(unlink);
    int noted = is_ours(path) && is_noted(path);
    if (noted) pthread_mutex_lock(&lock);
    int done = real(path);
    if (noted && done == 0) note(R_REMOVE, path, 0, 0, NULL, 0);
    if (noted) pthread_mutex_unlock(&lock);
    return done;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int done = real(clock, now);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += control->clock_seconds;
    if (done == 0 && clock == CLOCK_MONOTONIC) now->tv_sec += control->passed_seconds;
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int done = real(now, zone);
    if (done == 0) now->tv_sec += control->clock_seconds;
    return done;
}

time_t time(time_t *now) {
    REAL(time);
    time_t shown = real(NULL) + control->clock_seconds;
    if (now) *now = shown;
    return shown;
}
