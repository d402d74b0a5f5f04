/* SPDX-License-Identifier: MIT */
#include "qmp/peer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Of /proc/PID/stat, after the name: when the process began, in ticks since the host was booted. */
#define TICKS_FIELD 20

int64_t peer_process(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    return known ? peer.pid : 0;
}

/* "" if it can't be read. */
static void read_line(const char *path, char *line, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, line, size - 1);

    line[n > 0 ? n : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

/* The name may have spaces and parentheses in it. NULL: it is not there. */
static const char *find_ticks(const char *stat)
{
    const char *field = strrchr(stat, ')');
    for (int i = 0; field && i < TICKS_FIELD; i++)
        field = strchr(field + 1, ' ');
    return field ? field + 1 : NULL;
}

/* That file's time of change is that of its making. */
static void identify_socket(int fd, struct driver_identity *ret)
{
    union {
        struct sockaddr any;
        struct sockaddr_un local;
    } name = {0};
    socklen_t size = sizeof name;
    struct stat file;

    if (getpeername(fd, &name.any, &size) != 0 || name.any.sa_family != AF_UNIX ||
        name.local.sun_path[0] != '/' || stat(name.local.sun_path, &file) != 0)
        return;
    snprintf(ret->socket, sizeof ret->socket, "%lld.%09ld@%.*s", (long long)file.st_mtim.tv_sec,
             file.st_mtim.tv_nsec, (int)sizeof name.local.sun_path, name.local.sun_path);
}

void peer_identify(int fd, int64_t process, struct driver_identity *ret)
{
    char path[40], stat[1024], boot[sizeof ret->boot];

    *ret = (struct driver_identity){0};
    identify_socket(fd, ret);
    if (process <= 0 || process == getpid())
        return;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)process);
    read_line(path, stat, sizeof stat);
    read_line("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    const char *ticks = find_ticks(stat);
    if (!ticks || !*boot)
        return;
    memcpy(ret->boot, boot, sizeof boot);
    snprintf(ret->process, sizeof ret->process, "qemu %lld.%.*s", (long long)process,
             (int)strcspn(ticks, " "), ticks);
}
